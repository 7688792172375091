"""What every package needs: errors, files, progress, tables of text, configs, checks of arguments."""
