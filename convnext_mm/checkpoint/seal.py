"""A checksum of the whole file at the end of a checkpoint: the comment of the zip that ``torch.save`` writes."""
import hashlib
import struct

MARK = b'convnext_mm sha256 '
#: Bytes of the comment: the mark and 64 hexadecimal digits.
LENGTH = len(MARK) + 64
#: First bytes and size of the record at the end of a zip without a comment; its last two bytes are the comment's size.
_END, _END_SIZE = b'PK\x05\x06', 22


def seal(content):
    """The parts of a file: ``content`` (bytes of ``torch.save``) and what follows it, so that changes can be found."""
    if content[-_END_SIZE:-_END_SIZE + 4] != _END:
        raise ValueError('content must be a zip without a comment, as torch.save writes it')
    body, size = memoryview(content)[:-2], struct.pack('<H', LENGTH)
    digest = hashlib.sha256(body)
    digest.update(size)
    return body, size + MARK + digest.hexdigest().encode()


def seal_holds(pages, comment):
    """Whether the content (all bytes of the file) is what was sealed; files without a comment were never sealed."""
    if not comment:
        return True
    digest = hashlib.sha256(memoryview(pages)[:-LENGTH]).hexdigest()
    return comment == MARK + digest.encode()
