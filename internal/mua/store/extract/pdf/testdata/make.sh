#!/bin/sh
# Makes the samples beside it, with the programs of Debian's packages python3-gi-cairo,
# gir1.2-pango-1.0, fonts-dejavu-core, groff, ghostscript and qpdf. Run it in this folder.
set -eu
/usr/bin/python3 - <<'P'
import cairo, gi
gi.require_version('Pango', '1.0'); gi.require_version('PangoCairo', '1.0')
from gi.repository import Pango, PangoCairo
def make(name, columns):
    s = cairo.PDFSurface(name, 595, 842); c = cairo.Context(s)
    for i, t in enumerate(columns):
        c.move_to(50 + i * 270, 60)
        l = PangoCairo.create_layout(c); l.set_width((230 if len(columns) > 1 else 495) * Pango.SCALE)
        l.set_font_description(Pango.FontDescription("DejaVu Serif 10")); l.set_text(t, -1)
        PangoCairo.show_layout(c, l)
    c.show_page(); s.finish()
make("cairo.pdf", ["Zażółć gęślą jaźń. Umowa najmu lokalu nr 17/2026, zawarta w Łodzi. Efficient office: fficial flow ﬁnal waffle."])
make("columns.pdf", ["Left column alpha beta gamma.", "Right column delta epsilon zeta."])
s = cairo.PDFSurface("scan.pdf", 595, 842); c = cairo.Context(s)
i = cairo.ImageSurface(cairo.FORMAT_RGB24, 60, 80); d = cairo.Context(i); d.set_source_rgb(1, 1, 1); d.paint()
c.set_source_surface(i, 0, 0); c.paint(); c.show_page(); s.finish()
P
printf '.ll 3.2i\n.nh\n.sp\nUmowa najmu\n.br\n.hy 6\nThe efficient office flow of fish, extraordinarily complicated.\n' | groff -Tpdf > groff.pdf
gs -q -dNOPAUSE -dBATCH -sDEVICE=pdfwrite -dSubsetFonts=true -sOutputFile=ghostscript.pdf cairo.pdf
qpdf --object-streams=generate cairo.pdf objects.pdf
qpdf --linearize cairo.pdf linear.pdf
qpdf --allow-weak-crypto --encrypt "" owner 40 -- cairo.pdf rc4-40.pdf
qpdf --allow-weak-crypto --encrypt "" owner 128 --use-aes=n -- cairo.pdf rc4-128.pdf
qpdf --allow-weak-crypto --encrypt "" owner 128 --use-aes=y -- cairo.pdf aes-128.pdf
qpdf --encrypt "" owner 256 -- objects.pdf aes-256.pdf
qpdf --encrypt user owner 256 -- scan.pdf password.pdf
