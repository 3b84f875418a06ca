package backup

// DecodeAll runs everything that reads octets of a repository.
func DecodeAll(b []byte) {
	_ = records(b, func(_, _ []byte) error { return nil })
	_, _ = decodeBranches(b)
	if v, err := decodeValue(b); err == nil {
		if again, err := decodeValue(v.encode()); err != nil || len(again.pieces) != len(v.pieces) {
			panic("a value that was read and written can't be read")
		}
	}
	_ = decodeIndex(append([]byte(indexMagic), b...), func(packed) {})
	c, err := newCodec()
	if err != nil {
		panic(err)
	}
	defer c.close()
	_ = frames(c, b, func(ID, []byte, int, int) error { return nil })
}

// What tells processes apart.
var (
	Machine = machine
	Started = started
)
