"""What uploaded bytes are: told by their content alone, never by a name or a header, and bounded before anything unfolds.

Images are decoded and written anew: what is kept is an image and nothing else, without the place where it was taken.
"""

from dataclasses import dataclass
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from PIL import Image, ImageOps

from libs.contracts.catalog import FieldType
from services.booking.errors import UploadUnfit

JPEG, PNG, PDF = "image/jpeg", "image/png", "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
IMAGES = frozenset({JPEG, PNG})
SUFFIXES = {JPEG: ".jpg", PNG: ".png", PDF: ".pdf", DOCX: ".docx", XLSX: ".xlsx"}

MOST_INSIDE_BYTES = 100 * 1024 * 1024
MOST_PARTS = 2000
_PIECE = 64 * 1024
_KEPT = ("icc_profile", "transparency")  # without them its colours would be others


@dataclass(frozen=True)
class Content:
    """Bytes that may be kept, and what they are."""

    media_type: str
    data: bytes


def checked(data: bytes, wanted: FieldType, *, most_pixels: int) -> Content:
    """Return what may be kept as an answer to an image or a file field, or raise UploadUnfit."""
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        return _image(data, most_pixels)
    if wanted == FieldType.IMAGE:
        raise UploadUnfit(reason="no_image")
    if data.startswith(b"%PDF-") and b"%%EOF" in data[-1024:]:
        return Content(PDF, data)
    if data.startswith(b"PK\x03\x04"):
        return _document(data)
    raise UploadUnfit(reason="kind_not_taken")


def _image(data: bytes, most_pixels: int) -> Content:
    try:
        with Image.open(BytesIO(data), formats=("JPEG", "PNG")) as image:
            # Only its head has been read.
            if image.width * image.height > most_pixels:
                raise UploadUnfit(reason="too_many_pixels", most=most_pixels)
            media_type, kind = Image.MIME[str(image.format)], image.format
            ImageOps.exif_transpose(image, in_place=True)
            image.info = {name: image.info[name] for name in _KEPT if name in image.info}
            written = BytesIO()
            image.save(written, kind, quality=85, compress_level=3)
    except UploadUnfit:
        raise
    except Image.DecompressionBombError:
        raise UploadUnfit(reason="too_many_pixels", most=most_pixels) from None
    except Exception as error:  # whatever a decoder stumbles over, the bytes are at fault
        raise UploadUnfit(reason="broken") from error
    return Content(media_type, written.getvalue())


def _document(data: bytes) -> Content:
    """Tell documents of Word and Excel from other archives; all that is in them is unfolded once, and thrown away."""
    try:
        with ZipFile(BytesIO(data)) as package:
            _unfold(package)
            types = package.read("[Content_Types].xml")
            names = package.namelist()
    except UploadUnfit:
        raise
    except Exception as error:  # as above
        raise UploadUnfit(reason="broken") from error
    if any(name.lower().endswith("vbaproject.bin") for name in names):
        raise UploadUnfit(reason="kind_not_taken")
    for media_type in (DOCX, XLSX):
        if f"{media_type}.main+xml".encode() in types:
            return Content(media_type, data)
    raise UploadUnfit(reason="kind_not_taken")


def _unfold(package: ZipFile) -> None:
    parts = package.infolist()
    left = MOST_INSIDE_BYTES
    if len(parts) > MOST_PARTS:
        raise UploadUnfit(reason="too_much_inside")
    for part in parts:
        if part.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise UploadUnfit(reason="kind_not_taken")
        with package.open(part) as content:
            while piece := content.read(_PIECE):
                left -= len(piece)
                if left < 0:
                    raise UploadUnfit(reason="too_much_inside")
