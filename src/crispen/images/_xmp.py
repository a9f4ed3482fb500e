"""XMP: what must change in it when a picture is turned upright or enlarged, and nothing else.

A packet is RDF in XML (ISO 16684-1:2019, "XMP data model, serialization and core properties"): ``rdf:RDF`` holds
``rdf:Description`` elements, and these hold the properties, as attributes or as elements. Only properties at that
level are the picture's own; deeper ones tell of other pictures. Prefixes, order and what is unknown stay as they
are. A packet is never trusted: one with a document type (where entities come from), or too large or too deep, counts
as one that cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from fractions import Fraction
from xml.dom import minidom
from xml.parsers.expat import ExpatError, ParserCreate

from crispen.images._fitting import largest

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
TIFF = "http://ns.adobe.com/tiff/1.0/"
EXIF = "http://ns.adobe.com/exif/1.0/"
XMP = "http://ns.adobe.com/xap/1.0/"
XMP_MM = "http://ns.adobe.com/xap/1.0/mm/"
_NAMESPACES = "http://www.w3.org/2000/xmlns/"  # that of what declares them

_GAIN_MAP = ("http://ns.adobe.com/hdr-gain-map/1.0/", "Version")
_MOTION_PHOTO = ("http://ns.google.com/photos/1.0/camera/", "MotionPhoto")
_MICRO_VIDEO = ("http://ns.google.com/photos/1.0/camera/", "MicroVideo")  # as that was called until 2020
_UNTRUE_AFTERWARDS = (
    (XMP, "Thumbnails"),
    ("http://purl.org/dc/terms/", "provenance"),  # where C2PA's signed manifest lies that is not in the file
    # The rest refer to parts of a JPEG beside the picture, which are not carried over.
    ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP"),
    ("http://ns.google.com/photos/1.0/container/", "Directory"),
    _GAIN_MAP,
    _MOTION_PHOTO,
    _MICRO_VIDEO,
)

_MAX_BYTES = 8 << 20
_MAX_PARTS = 50_000  # elements and attributes; each takes about a kilobyte, and a long history has thousands
_MAX_DEPTH = 100  # XMP proper has about ten; minidom is recursive
_MM_PER_INCH, _MM_PER_CENTIMETRE = 25.4, 10.0
_CENTIMETRE = "3"


def enlarged(
    xmp: bytes,
    *,
    width: int,
    height: int,
    resolution: tuple[float, float] | None = None,
    upright: bool = False,
) -> bytes:
    """Return XMP as it is true of the enlarged picture, in UTF-8.

    ``width`` and ``height`` are the result's, in pixels; ``resolution`` is across and down, in pixels per
    millimetre; both are put where the XMP states them already. ``upright`` says that the pixels have been turned as
    the orientation tag asks. Thumbnails go, and links to what is not carried over: signed content credentials
    elsewhere, the rest of a divided packet, a film or a gain map behind the picture.

    XMP that cannot be read is returned as it is, but for its orientation.
    """

    def edit(document: minidom.Document) -> None:
        if upright:
            _turn(document)
        _state_size(document, width, height)
        if resolution is not None:
            _state_resolution(document, *resolution)
        for namespace, name in _UNTRUE_AFTERWARDS:
            remove(document, namespace, name)

    return _edited(xmp, edit, turned=upright)


def behind(xmp: bytes) -> tuple[str, ...]:
    """Name what there is behind the picture in its file, by what XMP says and `enlarged` takes out of it."""
    document = parsed(xmp)
    if document is None:
        return ()
    has_film = "1" in (simple(document, *_MOTION_PHOTO), simple(document, *_MICRO_VIDEO))
    has_gain_map = simple(document, *_GAIN_MAP) is not None
    return ("HDR gain map",) * has_gain_map + ("motion photo's film",) * has_film


def upright(xmp: bytes) -> bytes:
    """Return XMP that says that its picture stands upright, unchanged where it does not say otherwise."""
    return _edited(xmp, _turn, turned=True)


def fits(xmp: bytes, room: int) -> bool:
    """Tell whether all that XMP says can be said in ``room`` bytes: much of a packet may be blanks."""
    return len(xmp) <= room or ((document := parsed(xmp)) is not None and len(serialised(document)) <= room)


def within(xmp: bytes, room: int, *, kept: Container[tuple[str | None, str | None]] = ()) -> bytes | None:
    """Return XMP in at most ``room`` bytes: where it has more, its largest properties go.

    ``kept`` are those, by namespace and name, that stay whatever their size. None where there is no room for these, or
    the XMP cannot be read.
    """
    if len(xmp) <= room:
        return xmp
    document = parsed(xmp)
    if document is None:
        return None
    while (excess := len(packet := serialised(document)) - room) > 0:
        going = largest(_properties(document, but=kept), excess)
        if not going:
            return None
        for part in going:
            _take_out(part)
    return packet


def parsed(xmp: bytes) -> minidom.Document | None:
    """Parse a packet in UTF-8 or UTF-16; None where it is not XML with one ``rdf:RDF``, or not to be trusted."""
    text = _decoded(xmp)
    if text is None:
        return None
    try:
        _check(text)
        document = minidom.parseString(text)
    except (ExpatError, ValueError):  # minidom raises ValueError for a blank in the name of a namespace
        return None
    return document if len(document.getElementsByTagNameNS(RDF, "RDF")) == 1 else None


def serialised(document: minidom.Document) -> bytes:
    """Return a packet in UTF-8, without an XML declaration, which XMP in a file has not."""
    return "\n".join(node.toxml() for node in document.childNodes).encode()


def rdf(document: minidom.Document) -> minidom.Element:
    """Return the one ``rdf:RDF``."""
    return document.getElementsByTagNameNS(RDF, "RDF")[0]


def descriptions(document: minidom.Document) -> list[minidom.Element]:
    """Return the elements that hold the picture's properties."""
    return children(rdf(document), RDF, "Description")


def children(parent: minidom.Element, namespace: str, name: str) -> list[minidom.Element]:
    """Return the elements of that name that stand in ``parent`` itself."""
    return [
        node
        for node in parent.childNodes
        if isinstance(node, minidom.Element) and (node.namespaceURI, node.localName) == (namespace, name)
    ]


def text_of(element: minidom.Element) -> str:
    """Return the text that stands in the element itself."""
    return "".join(node.data for node in element.childNodes if isinstance(node, minidom.Text)).strip()


def simple(document: minidom.Document, namespace: str, name: str) -> str | None:
    """Return a property that is text or a link, whichever way it is written; None where it is not stated."""
    for description in descriptions(document):
        if description.hasAttributeNS(namespace, name):
            return description.getAttributeNS(namespace, name)
        for element in children(description, namespace, name):
            return element.getAttributeNS(RDF, "resource") or text_of(element)
    return None


def remove(document: minidom.Document, namespace: str, name: str) -> None:
    """Remove a property, whichever way it is written."""
    for description in descriptions(document):
        if description.hasAttributeNS(namespace, name):
            description.removeAttributeNS(namespace, name)
        for element in children(description, namespace, name):
            description.removeChild(element)


def restate(document: minidom.Document, namespace: str, name: str, value: str) -> None:
    """Put a property that is text, where it is stated."""
    for description in descriptions(document):
        attribute = description.getAttributeNodeNS(namespace, name)
        if attribute is not None:
            attribute.value = value
        for element in children(description, namespace, name):
            while element.firstChild is not None:
                element.removeChild(element.firstChild)
            element.appendChild(document.createTextNode(value))


def _properties(
    document: minidom.Document, *, but: Container[tuple[str | None, str | None]]
) -> Iterator[tuple[int, minidom.Element | minidom.Attr]]:
    """Yield each property with the bytes that it takes, ``but`` those of these namespaces and names."""
    for description in descriptions(document):
        for part in (*description.childNodes, *description.attributes.values()):
            if not isinstance(part, minidom.Element | minidom.Attr):
                continue
            is_property = part.namespaceURI not in (RDF, _NAMESPACES)
            if is_property and (part.namespaceURI, part.localName) not in but:
                written = part.toxml() if isinstance(part, minidom.Element) else part.value
                yield len(written.encode()), part


def _take_out(part: minidom.Element | minidom.Attr) -> None:
    if isinstance(part, minidom.Attr):
        assert part.ownerElement is not None
        part.ownerElement.removeAttributeNode(part)
    else:
        assert part.parentNode is not None
        part.parentNode.removeChild(part)


def _edited(xmp: bytes, edit: Callable[[minidom.Document], None], *, turned: bool) -> bytes:
    document = parsed(xmp)
    if document is None:
        return re.sub(rb'(tiff:Orientation(?:=["\']|>))[2-8]', rb"\g<1>1", xmp) if turned else xmp
    before = serialised(document)
    edit(document)
    after = serialised(document)
    return xmp if after == before else after


def _turn(document: minidom.Document) -> None:
    lies_on_its_side = simple(document, TIFF, "Orientation") in ("5", "6", "7", "8")
    restate(document, TIFF, "Orientation", "1")
    if lies_on_its_side:
        _exchange(document, TIFF, "ImageWidth", "ImageLength")
        _exchange(document, TIFF, "XResolution", "YResolution")
        _exchange(document, EXIF, "PixelXDimension", "PixelYDimension")


def _exchange(document: minidom.Document, namespace: str, one: str, other: str) -> None:
    first, second = simple(document, namespace, one), simple(document, namespace, other)
    if first is not None and second is not None:
        restate(document, namespace, one, second)
        restate(document, namespace, other, first)


def _state_size(document: minidom.Document, width: int, height: int) -> None:
    for namespace, across, down in (
        (TIFF, "ImageWidth", "ImageLength"),
        (EXIF, "PixelXDimension", "PixelYDimension"),
    ):
        restate(document, namespace, across, str(width))
        restate(document, namespace, down, str(height))


def _state_resolution(document: minidom.Document, across: float, down: float) -> None:
    metric = simple(document, TIFF, "ResolutionUnit") == _CENTIMETRE
    millimetres = _MM_PER_CENTIMETRE if metric else _MM_PER_INCH
    for name, value in (("XResolution", across), ("YResolution", down)):
        fraction = Fraction(value * millimetres).limit_denominator(10_000)
        restate(document, TIFF, name, f"{fraction.numerator}/{fraction.denominator}")


def _decoded(xmp: bytes) -> str | None:
    """Decode by the byte order mark or, without one, by where the zeros of the first "<" stand."""
    if len(xmp) > _MAX_BYTES:
        return None
    encoding = "utf-8-sig"
    if xmp.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif xmp.startswith((b"<\0", b"\0<")):
        encoding = "utf-16-le" if xmp.startswith(b"<") else "utf-16-be"
    try:
        return xmp.decode(encoding).strip("\0 \t\r\n")
    except UnicodeDecodeError:
        return None


def _check(text: str) -> None:
    """Raise ExpatError where the text is not XML, and ValueError where it is more than a packet can need."""
    depth = parts = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, parts
        depth, parts = depth + 1, parts + 1 + len(attributes)
        if depth > _MAX_DEPTH or parts > _MAX_PARTS:
            raise ValueError("too many elements")

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def doctype(*_: object) -> None:
        raise ValueError("a document type")

    parser = ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = doctype
    parser.Parse(text, True)
