package page_test

import "testing"

// TestSearchHint: a field that is none is told beside what was found for the text.
func TestSearchHint(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.add(h.ala, "INBOX", 0, text("Ola <ola@example.org>", "Lunch", "status:open since Monday", 0))
	h.index()
	const hint = "is no field of a search"
	h.shows("/mail?q=status:open", "Lunch", "“status:” "+hint+", so “status:open” was looked for as text; fields are from, to, cc", "Put it in quotes, &#34;status:open&#34;, when the text is meant.")
	h.shows("/mail?q=%22status:open%22", "Lunch", "!"+hint)
	h.shows("/mail?q=status:open&typing=1", "!"+hint)
	h.shows("/mail?q=from:ola", "Lunch", "!"+hint)
	h.shows("/mail?q=%3Cb%3Efoo:%3Cscript%3E", "!<script>")
}
