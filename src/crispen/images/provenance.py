"""What an enlarged picture says of itself: that an AI model enlarged it, and which; in its XMP.

==================================  ======================================================================
``Iptc4xmpExt:DigitalSourceType``   IPTC's code for "edited using generative AI" or, for a model that invents
                                    nothing, for "algorithmically-altered media"
``xmpMM:History``                   one more event: "resized", by crispen and its version
``crispen:Enlargements``            one more `Statement`, in full
``xmp:CreatorTool``                 crispen, unless it names a tool already: it stands for the first there was
==================================  ======================================================================

Sources: IPTC Photo Metadata Standard 2023.1 and its NewsCodes "Digital Source Type" of 2024-09-17 (the code is for
"augmentation, correction or enhancement using a generative AI model"); ISO 16684-1:2019 for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.dom import minidom

from crispen.images import _xmp

NAMESPACE = "urn:crispen:provenance:1.0:"
"""The XML namespace of crispen's own properties; their prefix is ``crispen``."""

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""Where IPTC's codes for the digital source type stand."""

EDITED_BY_GENERATIVE_AI = "compositeWithTrainedAlgorithmicMedia"
ALTERED_BY_ALGORITHM = "algorithmicallyEnhanced"
# Whoever finds one of these knows at least as much, and would know less after it were replaced.
_GENERATED = (EDITED_BY_GENERATIVE_AI, "compositeSynthetic", "trainedAlgorithmicMedia", "algorithmicMedia")

_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_EVENT = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
_NAMESPACES = {
    "rdf": _xmp.RDF,
    "xmp": _xmp.XMP,
    "xmpMM": _xmp.XMP_MM,
    "stEvt": _EVENT,
    "Iptc4xmpExt": _IPTC,
    "crispen": NAMESPACE,
}
STATED = ((NAMESPACE, "Enlargements"), (_IPTC, "DigitalSourceType"))
"""The properties, by namespace and name, that must not be lost with others: they say that a model was at work."""

_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_xmp.RDF}"/></x:xmpmeta>'
    '<?xpacket end="w"?>'
).encode()
_BLANKS = re.compile("[\t\n\r]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What is said of one enlargement.

    ``model`` is its name, ``weights_sha256`` the hash of its weights in 64 hexadecimal digits, ``version`` that of
    crispen, ``scale`` how many times the picture was enlarged, ``width`` and ``height`` the result's in pixels.
    ``generative`` says that the model adds detail that was not in the picture, as a GAN does. ``when`` is the time as
    ISO 8601 has it, or nothing, so that the same input gives the same bytes.
    """

    model: str
    weights_sha256: str
    version: str
    scale: float
    width: int
    height: int
    generative: bool = True
    when: str | None = None


def tagged(xmp: bytes | None, statement: Statement) -> bytes:
    """Return XMP that says, beside all that it said, that the picture was enlarged.

    Where the last enlargement it tells of is this very one, it is returned as it is; another is added to those there
    are. XMP that cannot be read (see `crispen.images._xmp`) gives way to new.
    """
    document = (_xmp.parsed(xmp) if xmp else None) or _read(_EMPTY)
    if xmp and _fields_of(document)[-1:] == [_fields(statement)]:
        return xmp
    home = _new_description(document)
    _append(document, home, "crispen", "Enlargements", "crispen", _fields(statement))
    _append(document, home, "xmpMM", "History", "stEvt", _event(statement))
    _state_source_type(document, home, statement)
    if _xmp.simple(document, _xmp.XMP, "CreatorTool") is None:
        _add(document, home, "xmp", "CreatorTool", _agent(statement))
    if home.hasChildNodes():
        _xmp.rdf(document).appendChild(home)
    return _xmp.serialised(document)


def statement_of(xmp: bytes) -> Statement | None:
    """Return what XMP says of the last enlargement; None where it says nothing, or nothing that makes sense."""
    document = _xmp.parsed(xmp)
    found = _fields_of(document) if document is not None else []
    try:
        return _statement(found[-1]) if found else None
    except (KeyError, ValueError):
        return None


def _fields(statement: Statement) -> dict[str, str]:
    """Write a statement as texts, the inverse of `_statement`."""
    fields = {
        "model": _text(statement.model),
        "weightsSHA256": _text(statement.weights_sha256),
        "version": _text(statement.version),
        "scale": _number(statement.scale),
        "width": str(statement.width),
        "height": str(statement.height),
        "generative": str(statement.generative),  # XMP's Booleans are True and False
    }
    return fields if statement.when is None else fields | {"when": _text(statement.when)}


def _statement(fields: Mapping[str, str]) -> Statement:
    """Read a statement; raises KeyError or ValueError where it makes no sense."""
    return Statement(
        model=fields["model"],
        weights_sha256=fields["weightsSHA256"],
        version=fields["version"],
        scale=float(fields["scale"]),
        width=int(fields["width"]),
        height=int(fields["height"]),
        generative=fields["generative"] == "True",
        when=fields.get("when"),
    )


def _event(statement: Statement) -> dict[str, str]:
    how = f"enlarged {_number(statement.scale)} times by the AI model {_text(statement.model)}"
    event = {"action": "resized", "softwareAgent": _agent(statement), "parameters": how}
    return event if statement.when is None else event | {"when": _text(statement.when)}


def _agent(statement: Statement) -> str:
    return f"crispen {_text(statement.version)}"


def _fields_of(document: minidom.Document) -> list[dict[str, str]]:
    """Return every enlargement that is stated, oldest first."""
    return [
        {node.localName: _xmp.text_of(node) for node in item.childNodes if isinstance(node, minidom.Element)}
        for description in _xmp.descriptions(document)
        for element in _xmp.children(description, NAMESPACE, "Enlargements")
        for items in _xmp.children(element, _xmp.RDF, "Seq")
        for item in _xmp.children(items, _xmp.RDF, "li")
    ]


def _new_description(document: minidom.Document) -> minidom.Element:
    """Make an element for what is new; all must be about the same, which mostly is an empty text."""
    others = _xmp.descriptions(document)
    about = others[0].getAttributeNS(_xmp.RDF, "about") if others else ""
    description = _element(document, "<rdf:Description/>", "rdf")
    description.setAttributeNS(_xmp.RDF, "rdf:about", about)
    return description


def _append(
    document: minidom.Document,
    home: minidom.Element,
    prefix: str,
    name: str,
    field_prefix: str,
    fields: Mapping[str, str],
) -> None:
    """Append a structure to a list, which is added to ``home`` where there is none."""
    inside = "".join(_written(f"{field_prefix}:{key}", value) for key, value in fields.items())
    item = f'<rdf:li rdf:parseType="Resource">{inside}</rdf:li>'
    for description in _xmp.descriptions(document):
        for element in _xmp.children(description, _NAMESPACES[prefix], name):
            for items in _xmp.children(element, _xmp.RDF, "Seq")[:1]:
                items.appendChild(_element(document, item, "rdf", field_prefix))
                return
    _xmp.remove(document, _NAMESPACES[prefix], name)  # no list: nothing that could be read
    whole = f"<{prefix}:{name}><rdf:Seq>{item}</rdf:Seq></{prefix}:{name}>"
    home.appendChild(_element(document, whole, "rdf", prefix, field_prefix))


def _state_source_type(document: minidom.Document, home: minidom.Element, statement: Statement) -> None:
    """State IPTC's code, unless the picture owns up to as much already."""
    stated = _xmp.simple(document, _IPTC, "DigitalSourceType") or ""
    if re.split("[/:]", stated)[-1] in _GENERATED:
        return
    _xmp.remove(document, _IPTC, "DigitalSourceType")
    code = EDITED_BY_GENERATIVE_AI if statement.generative else ALTERED_BY_ALGORITHM
    _add(document, home, "Iptc4xmpExt", "DigitalSourceType", SOURCE_TYPES + code)


def _add(document: minidom.Document, home: minidom.Element, prefix: str, name: str, value: str) -> None:
    home.appendChild(_element(document, _written(f"{prefix}:{name}", value), prefix))


def _written(name: str, value: str) -> str:
    # Not xml.sax.saxutils.escape, which brings along all of HTTP and TLS.
    escaped = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<{name}>{escaped}</{name}>"


def _element(document: minidom.Document, source: str, *prefixes: str) -> minidom.Element:
    """Make an element that declares its own prefixes: the packet may use them for something else, or not at all."""
    declared = "".join(f' xmlns:{prefix}="{_NAMESPACES[prefix]}"' for prefix in dict.fromkeys(prefixes))
    at = re.search("[ />]", source)
    assert at is not None
    root = minidom.parseString(source[: at.start()] + declared + source[at.start() :]).documentElement
    assert root is not None
    return document.importNode(root, deep=True)


def _read(packet: bytes) -> minidom.Document:
    document = _xmp.parsed(packet)
    assert document is not None
    return document


def _text(value: str) -> str:
    """Return text that XML can hold and gives back as it was: a file's name may have anything in it."""
    return "".join(map(_as_in_xml, _BLANKS.sub(" ", value))).strip()


def _as_in_xml(character: str) -> str:
    """Return a character, which is none of `_BLANKS`, or what stands for one that XML cannot hold."""
    held = " " <= character <= "\ud7ff" or "\ue000" <= character <= "\ufffd" or character >= "\U00010000"
    return character if held else "\ufffd"


def _number(value: float) -> str:
    return str(float(value)).removesuffix(".0")
