package mime

import "strings"

// Defects is a set of oddities, at each of which some programs read a message differently.
type Defects uint32

// The oddities.
const (
	NoFinalBoundary  Defects = 1 << iota // a multipart does not end with its final boundary
	NoBoundary                           // a multipart names no boundary; it is left whole
	NoParts                              // no boundary of a multipart occurs in it
	BadBoundary                          // a boundary is empty or longer than RFC 2046 §5.1.1 allows
	BoundaryPrefix                       // a line goes on behind the boundary and was taken for it (RFC 2046 §5.1.1)
	SameBoundary                         // a multipart has the boundary of one around it
	OuterBoundary                        // a multipart is ended by the boundary of one around it
	BadHeader                            // a header section has lines that are no fields
	NoSeparator                          // no empty line ends the header section
	BadType                              // Content-Type can't be read; text/plain was taken (RFC 2045 §5.2)
	RepeatedField                        // a field of MIME stands twice; the first counts
	RepeatedParam                        // a parameter stands twice; the first counts
	BadParam                             // a parameter can't be read whole
	BadEncoding                          // the content transfer encoding is unknown; none was taken
	EncodedContainer                     // a multipart or message is encoded, against RFC 2045 §6.4; it was decoded and entered
	BadCharset                           // the charset is unknown
	NUL                                  // a header section holds NUL
	BareCR                               // a header section or boundary line holds a CR without LF
	UUEncoded                            // a text holds a uuencoded block
	BadDisposition                       // Content-Disposition can't be read
	TypeAsName                           // the file name by Content-Type and by Content-Disposition differ
	AfterFinal                           // a multipart goes on behind its final boundary
	DeepNesting                          // nested deeper than Limits.Depth; what is inside was not looked at
	ManyParts                            // more parts than Limits.Parts; the rest was not looked at
	LargeHeader                          // a header section is larger than Limits allow; the rest of it was not looked at
	LargeContainer                       // an encoded container is larger than Limits.Decoded; it was not entered
	numDefects       = iota
)

var defectNames = [numDefects]string{"no_final_boundary", "no_boundary", "no_parts", "bad_boundary", "boundary_prefix", "same_boundary",
	"outer_boundary", "bad_header", "no_separator", "bad_type", "repeated_field", "repeated_param", "bad_param", "bad_encoding",
	"encoded_container", "bad_charset", "nul", "bare_cr", "uuencoded", "bad_disposition", "names_differ", "after_final", "deep_nesting", "many_parts",
	"large_header", "large_container"}

// Exceeded are the Defects that say that something was not looked at because of Limits.
const Exceeded = DeepNesting | ManyParts | LargeHeader | LargeContainer

// Has reports whether one of the oddities in of is among them.
func (d Defects) Has(of Defects) bool { return d&of != 0 }

// Names are the words of the oddities, in the order of the constants.
func (d Defects) Names() []string {
	var names []string
	for i, n := range defectNames {
		if d&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// String is the names, joined by commas.
func (d Defects) String() string { return strings.Join(d.Names(), ",") }
