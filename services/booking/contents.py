"""What uploaded bytes are: told by their content alone, never by a name or a header, and bounded before anything unfolds.

Images are decoded and written anew: what is kept is an image and nothing else, without the place where it was taken.
"""

from dataclasses import dataclass
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from PIL import Image, ImageCms, ImageOps

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
_KEPT = ("transparency",)  # without it its colours would be others
_SRGB = ImageCms.createProfile("sRGB")


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
            kind = "PNG" if image.format == "PNG" else "JPEG"  # phones write MPO: a JPEG with more of them behind it
            ImageOps.exif_transpose(image, in_place=True)
            plain = _in_usual_colours(image)
            plain.info = {name: image.info[name] for name in _KEPT if name in image.info}
            written = BytesIO()
            plain.save(written, kind, quality=85, compress_level=3)
    except UploadUnfit:
        raise
    except Image.DecompressionBombError:
        raise UploadUnfit(reason="too_many_pixels", most=most_pixels) from None
    except Exception as error:  # whatever a decoder stumbles over, the bytes are at fault
        raise UploadUnfit(reason="broken") from error
    return Content(Image.MIME[kind], written.getvalue())


def _in_usual_colours(image: Image.Image) -> Image.Image:
    """Return the image in sRGB, so that it needs no profile of its own: in one anything can be hidden."""
    profile = image.info.get("icc_profile")
    if profile is None or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    mode = "RGB" if image.mode == "CMYK" else image.mode
    try:
        return ImageCms.profileToProfile(image, BytesIO(profile), _SRGB, outputMode=mode) or image
    except ImageCms.PyCMSError:
        return image  # that is no profile of these colours: without it they are as good


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
