package body

import "hash/crc32"

// castagnoli is the table of CRC-32C, for which processors have an instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// updateCRC adds p to the CRC-32C sum.
func updateCRC(sum uint32, p []byte) uint32 { return crc32.Update(sum, castagnoli, p) }

// combineCRC returns the CRC-32C of two strings one after the other, from their
// sums and the length of the second: sum1·x^(8·n2) + sum2 modulo the polynomial.
func combineCRC(sum1, sum2 uint32, n2 int64) uint32 {
	const one, octet = uint32(1) << 31, uint32(1) << 23 // x^0 and x^8; bit 31 is the lowest power
	power, square := one, octet
	for ; n2 > 0; n2 >>= 1 {
		if n2&1 != 0 {
			power = multiplyCRC(power, square)
		}
		square = multiplyCRC(square, square)
	}
	return multiplyCRC(power, sum1) ^ sum2
}

// multiplyCRC multiplies two polynomials modulo that of CRC-32C.
func multiplyCRC(a, b uint32) uint32 {
	var product uint32
	for ; a != 0; a <<= 1 {
		if a>>31 != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= crc32.Castagnoli
		}
	}
	return product
}
