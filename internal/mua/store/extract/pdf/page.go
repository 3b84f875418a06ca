package pdf

import (
	"maps"
	"slices"
)

// pages reads all pages, and returns how many there are.
func (f *file) pages(out *sheet) int {
	var root dict
	if f.trailer != nil {
		root = f.dict(f.trailer["Root"])
	}
	seen := make(map[int]bool)
	n := f.branch(root["Pages"], nil, seen, out, 0)
	if n > 0 {
		return n
	}
	for _, num := range slices.Sorted(maps.Keys(f.at)) { // a broken tree: every page there is
		if out.full() || f.w.left <= 0 {
			break
		}
		if d, ok := f.object(num).(dict); ok && !seen[num] && f.name(d["Type"]) == "Page" {
			f.page(d, f.dict(d["Resources"]), out)
			n++
		}
	}
	return n
}

// branch reads a branch of the tree of pages (ISO 32000-2 §7.7.3), each once.
func (f *file) branch(v any, resources dict, seen map[int]bool, out *sheet, depth int) int {
	r, isRef := v.(ref)
	if depth > maxDepth || isRef && seen[r.num] || out.full() || !f.w.spend(100) {
		return 0
	}
	if isRef {
		seen[r.num] = true
	}
	d := f.dict(v)
	if own := f.dict(d["Resources"]); own != nil {
		resources = own
	}
	kids := f.list(d["Kids"])
	if kids == nil {
		if d == nil || f.name(d["Type"]) != "Page" && d["Contents"] == nil {
			return 0
		}
		f.page(d, resources, out)
		return 1
	}
	n := 0
	for _, kid := range kids {
		n += f.branch(kid, resources, seen, out, depth+1)
	}
	return n
}

// page reads a page, and what stands in its fields and comments.
func (f *file) page(d, resources dict, out *sheet) {
	out.fresh()
	p := &program{f: f, out: out}
	p.run(f.contents(d["Contents"]), resources, upright)
	for _, v := range f.list(d["Annots"]) {
		if out.full() || !f.w.spend(100) {
			return
		}
		a := f.dict(v)
		for _, s := range []any{a["Contents"], a["V"], f.dict(a["Parent"])["V"]} {
			if b := f.bytes(s); len(b) > 0 {
				out.fresh()
				out.write(text(b))
			}
		}
	}
	out.fresh()
}

// contents is a page's program: a stream, or several.
func (f *file) contents(v any) []byte {
	v = f.resolve(v)
	if s, ok := v.(stream); ok {
		return f.decode(s)
	}
	list, _ := v.([]any)
	if len(list) == 1 {
		if s, ok := f.resolve(list[0]).(stream); ok {
			return f.decode(s)
		}
	}
	var all []byte
	for _, v := range list {
		if len(all) > maxStream || f.w.left <= 0 {
			break
		}
		if s, ok := f.resolve(v).(stream); ok {
			all = append(append(all, f.decode(s)...), '\n')
		}
	}
	return all
}
