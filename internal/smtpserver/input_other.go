//go:build !unix

package smtpserver

import "errors"

// rawReads says that a descriptor can be read without a buffer held while waiting.
const rawReads = false

func readFD(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
