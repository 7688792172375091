"""What every package needs: errors, whole files, progress, text, ways through a config, checks of arguments."""
