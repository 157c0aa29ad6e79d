"""A strict reader of our pages: what is in them, and whether every tag closes what was opened."""

from html.parser import HTMLParser

VOID = frozenset({"meta", "br", "hr", "input"})


class Page(HTMLParser):
    """Tags, ids, links and texts of a page.

    Attributes:
        tags: All element names.
        attributes: (tag, name, value) of every attribute.
        texts: By id, the text inside of the element of that id; "" has the whole page's.
        tables: Each a list of rows of cell texts.
    """

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.ids, self.tables = set(), [], [], []
        self.texts = {"": ""}
        self._open = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        identity = dict(attrs).get("id")
        if identity is not None:
            self.ids.append(identity)
            self.texts[identity] = ""
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self._open.append((tag, identity))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> closes nothing"
        opened, identity = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened} id={identity}>"

    def handle_data(self, data):
        if self._open and self._open[-1][0] == "style":
            return
        for identity in {"", *(identity for _, identity in self._open if identity)}:
            self.texts[identity] += data
        if any(tag in ("td", "th") for tag, _ in self._open):
            self.tables[-1][-1][-1] += data

    def links(self):
        return [value for tag, name, value in self.attributes if name == "href"]
