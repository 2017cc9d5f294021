"""Spreadsheets for tests, written by hand, so that they can also be wrong."""

import io
import struct
import zipfile
from xml.sax.saxutils import escape

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OPEN = "urn:oasis:names:tc:opendocument:xmlns"


def cell(reference, value):
    """A cell of an .xlsx: text, a number, or a formula with its cached text as a pair."""
    if isinstance(value, tuple):
        return f'<c r="{reference}" t="str"><f>{escape(value[0])}</f><v>{escape(value[1])}</v></c>'
    if isinstance(value, str):
        return f'<c r="{reference}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
    return f'<c r="{reference}"><v>{value}</v></c>'


def xlsx(sheets, further=()):
    """The bytes of a workbook: {name: rows}, a row a list of values, or the sheet's XML; `further` are (name, bytes) of more parts."""
    names = list(sheets)
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" ContentType="application/vnd.'
        'openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override '
        'PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" Type="{_OFFICE}/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>' + "".join(
            f'<sheet name="{escape(name)}" sheetId="{number}" r:id="rId{number}"/>' for number, name in enumerate(names, 1))
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">' + "".join(
            f'<Relationship Id="rId{number}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{number}.xml"/>'
            for number, _ in enumerate(names, 1)) + "</Relationships>",
    }
    for number, name in enumerate(names, 1):
        rows = sheets[name]
        body = rows if isinstance(rows, str) else "".join(
            f'<row r="{row}">' + "".join(cell(f"{_letters(column)}{row}", value) for column, value in enumerate(values, 1)
                                         if value is not None) + "</row>" for row, values in enumerate(rows, 1))
        parts[f"xl/worksheets/sheet{number}.xml"] = f'<worksheet xmlns="{_MAIN}"><sheetData>{body}</sheetData></worksheet>'
    return _zipped({name: ('<?xml version="1.0" encoding="UTF-8"?>' + text).encode() for name, text in parts.items()}, further)


def ods(rows, row_attributes="", cell_attributes=""):
    """The bytes of an OpenDocument sheet with these rows of text."""
    body = "".join(f"<table:table-row {row_attributes}>" + "".join(
        f'<table:table-cell office:value-type="string" {cell_attributes}><text:p>{escape(value)}</text:p></table:table-cell>'
        for value in values) + "</table:table-row>" for values in rows)
    content = (f'<office:document-content xmlns:office="{_OPEN}:office:1.0" xmlns:table="{_OPEN}:table:1.0" xmlns:text="{_OPEN}:text:1.0">'
               f'<office:body><office:spreadsheet><table:table table:name="Sheet">{body}</table:table></office:spreadsheet></office:body>'
               "</office:document-content>")
    manifest = (f'<manifest:manifest xmlns:manifest="{_OPEN}:manifest:1.0"><manifest:file-entry manifest:full-path="/" '
                'manifest:media-type="application/vnd.oasis.opendocument.spreadsheet"/></manifest:manifest>')
    return _zipped({"mimetype": b"application/vnd.oasis.opendocument.spreadsheet", "META-INF/manifest.xml": manifest.encode(),
                    "content.xml": content.encode()})


def xls(rows, name="Sheet"):
    """The bytes of an Excel 97 workbook with one sheet: BIFF8 records in the one stream of a compound file (MS-XLS, MS-CFB)."""
    def record(kind, data=b""):
        return struct.pack("<HH", kind, len(data)) + data

    def begin(kind):
        return record(0x0809, struct.pack("<HHHHII", 0x0600, kind, 0, 0, 0, 0))

    def cell_record(row, column, value):
        place = struct.pack("<HHH", row, column, 0)
        if isinstance(value, str):
            return record(0x0204, place + struct.pack("<HB", len(value), 1) + value.encode("utf-16-le"))
        return record(0x0203, place + struct.pack("<d", value))

    def sheet_at(offset):
        return record(0x0085, struct.pack("<IBBBB", offset, 0, 0, len(name), 1) + name.encode("utf-16-le"))

    end = record(0x000A)
    globals_size = len(begin(5) + sheet_at(0) + end)
    cells = b"".join(cell_record(row, column, value) for row, values in enumerate(rows) for column, value in enumerate(values))
    size = record(0x0200, struct.pack("<IIHHH", 0, len(rows), 0, max(map(len, rows)), 0))
    stream = begin(5) + sheet_at(globals_size) + end + begin(0x10) + size + cells + end
    stream = stream.ljust(max(4096, -(-len(stream) // 512) * 512), b"\0")  # shorter streams are kept elsewhere
    last, free, table = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD
    sectors = [table, last, *range(3, len(stream) // 512 + 2), last]  # the table of sectors, the directory, the stream
    header = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16) + struct.pack(
        "<HHHHH6xIIIIIIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, 1, 1, 0, 4096, last, 0, last, 0) + struct.pack("<109I", 0, *[free] * 108)

    def entry(title, kind, child, start, length):
        text = title.encode("utf-16-le")
        return text.ljust(64, b"\0") + struct.pack("<HBBIII", len(text) + 2 if title else 0, kind, 1, free, free, child) + bytes(36) + \
            struct.pack("<IQ", start, length)

    directory = entry("Root Entry", 5, 1, last, 0) + entry("Workbook", 2, free, 2, len(stream)) + entry("", 0, free, 0, 0) * 2
    return header + struct.pack("<128I", *sectors, *[free] * (128 - len(sectors))) + directory + stream


def _zipped(parts, further=()):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [*parts.items(), *further]:
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _letters(column):
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
