package db

import (
	"fmt"
	"math"
	"reflect"
	"time"
	"unsafe"
)

// kind is what a value is to both engines.
type kind uint8

const (
	kindNull kind = iota
	kindInt
	kindText
	kindBlob
	kindOther // a type portable SQL does not have (REAL, timestamp …)
)

func (k kind) String() string {
	return [...]string{"NULL", "an integer", "text", "octets", "of a type without a place in portable SQL"}[k]
}

// value is one parameter or column. b belongs to whoever made the value: a
// parameter's octets to the caller, a column's to the engine until the next step.
type value struct {
	kind kind
	i    int64
	b    []byte
}

// textBytes is s as octets without a copy; they must not be written to.
func textBytes(s string) []byte {
	if s == "" {
		return []byte{}
	}
	return unsafe.Slice(unsafe.StringData(s), len(s))
}

// toValue turns the n-th parameter (counted from 1) into a value.
func toValue(arg any, n int) (value, error) {
	switch a := arg.(type) {
	case nil:
		return value{}, nil
	case int64:
		return value{kind: kindInt, i: a}, nil
	case int:
		return value{kind: kindInt, i: int64(a)}, nil
	case string:
		return textValue(a, n)
	case []byte:
		if a == nil {
			return value{}, nil
		}
		return value{kind: kindBlob, b: a}, nil
	case bool:
		return boolValue(a), nil
	case time.Time:
		return value{}, fmt.Errorf("parameter %d is a time.Time: pass db.Micros of it", n)
	}
	return reflectValue(reflect.ValueOf(arg), n)
}

func boolValue(b bool) value {
	if b {
		return value{kind: kindInt, i: 1}
	}
	return value{kind: kindInt}
}

func textValue(s string, n int) (value, error) {
	if !validText(s) {
		return value{}, fmt.Errorf("parameter %d is text with NUL or invalid UTF-8: pass it through db.Text or store it in a {blob}", n)
	}
	return value{kind: kindText, b: textBytes(s)}, nil
}

// reflectValue serves named types and pointers.
func reflectValue(v reflect.Value, n int) (value, error) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return value{}, nil
		}
		return toValue(v.Elem().Interface(), n)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return value{kind: kindInt, i: v.Int()}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if v.Uint() > math.MaxInt64 {
			return value{}, fmt.Errorf("parameter %d is %d, more than a 64-bit signed integer holds", n, v.Uint())
		}
		return value{kind: kindInt, i: int64(v.Uint())}, nil
	case reflect.String:
		return textValue(v.String(), n)
	case reflect.Bool:
		return boolValue(v.Bool()), nil
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return toValue(v.Bytes(), n)
		}
	case reflect.Array: // message.ID, a hash
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b := make([]byte, v.Len())
			reflect.Copy(reflect.ValueOf(b), v)
			return value{kind: kindBlob, b: b}, nil
		}
	}
	return value{}, fmt.Errorf("parameter %d is a %s: pass int64, string, []byte, bool or nil", n, v.Type())
}

// assign stores v, column n counted from 1, in what dest points to. Octets are
// copied.
func assign(dest any, v value, n int) error {
	switch d := dest.(type) {
	case *int64:
		if v.kind == kindInt {
			*d = v.i
			return nil
		}
	case *string:
		if v.kind == kindText || v.kind == kindBlob {
			*d = string(v.b)
			return nil
		}
	case *[]byte:
		switch v.kind {
		case kindNull:
			*d = nil
			return nil
		case kindText, kindBlob:
			*d = append(make([]byte, 0, len(v.b)), v.b...)
			return nil
		}
	case *bool:
		if v.kind == kindInt {
			*d = v.i != 0
			return nil
		}
	case *any:
		return assignAny(d, v)
	}
	return assignReflect(reflect.ValueOf(dest), v, n)
}

func assignAny(d *any, v value) error {
	switch v.kind {
	case kindInt:
		*d = v.i
	case kindText:
		*d = string(v.b)
	case kindBlob:
		*d = append(make([]byte, 0, len(v.b)), v.b...)
	default:
		*d = nil
	}
	return nil
}

func assignReflect(p reflect.Value, v value, n int) error {
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return fmt.Errorf("scan column %d: destination is a %s, not a pointer", n, p.Kind())
	}
	d := p.Elem()
	if d.Kind() == reflect.Pointer {
		if v.kind == kindNull {
			d.SetZero()
			return nil
		}
		fresh := reflect.New(d.Type().Elem())
		if err := assign(fresh.Interface(), v, n); err != nil {
			return err
		}
		d.Set(fresh)
		return nil
	}
	if ok, err := assignKind(d, v, n); ok || err != nil {
		return err
	}
	return fmt.Errorf("scan column %d: it is %s, the destination a %s", n, v.kind, p.Type())
}

// assignKind stores v in d by d's kind; it reports false when they do not fit.
func assignKind(d reflect.Value, v value, n int) (bool, error) {
	isText := v.kind == kindText || v.kind == kindBlob
	switch k := d.Kind(); {
	case d.CanInt() && v.kind == kindInt:
		if d.OverflowInt(v.i) {
			return false, fmt.Errorf("scan column %d: %d does not fit a %s", n, v.i, d.Type())
		}
		d.SetInt(v.i)
	case d.CanUint() && v.kind == kindInt:
		if v.i < 0 || d.OverflowUint(uint64(v.i)) {
			return false, fmt.Errorf("scan column %d: %d does not fit a %s", n, v.i, d.Type())
		}
		d.SetUint(uint64(v.i))
	case k == reflect.Bool && v.kind == kindInt:
		d.SetBool(v.i != 0)
	case k == reflect.String && isText:
		d.SetString(string(v.b))
	case k == reflect.Slice && d.Type().Elem().Kind() == reflect.Uint8 && (isText || v.kind == kindNull):
		if v.kind == kindNull {
			d.SetZero()
		} else {
			d.SetBytes(append(make([]byte, 0, len(v.b)), v.b...))
		}
	case k == reflect.Array && d.Type().Elem().Kind() == reflect.Uint8 && isText:
		if d.Len() != len(v.b) {
			return false, fmt.Errorf("scan column %d: %d octets do not fit a %s", n, len(v.b), d.Type())
		}
		reflect.Copy(d, reflect.ValueOf(v.b))
	default:
		return false, nil
	}
	return true, nil
}
