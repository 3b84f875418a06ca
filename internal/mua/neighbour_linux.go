package mua

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// maxConnections bounds the lines of the system's table that are read.
const maxConnections = 1 << 20

// checkOwner returns errNeighbour when the other end of a loopback connection belongs to another user
// than this process and root. What the table does not tell, as within namespaces, is let in.
func checkOwner(conn net.Conn) error {
	there, ok := conn.RemoteAddr().(*net.TCPAddr)
	here, ok2 := conn.LocalAddr().(*net.TCPAddr)
	if !ok || !ok2 || there.IP.To4() == nil || here.IP.To4() == nil {
		return nil
	}
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return nil
	}
	defer f.Close()
	from, to := tableAddr(there), tableAddr(here)
	lines := bufio.NewScanner(f)
	for n := 0; n < maxConnections && lines.Scan(); n++ {
		words := strings.Fields(lines.Text()) // sl local_address rem_address st tx:rx tr:tm retrnsmt uid …
		if len(words) < 8 || words[1] != from || words[2] != to {
			continue
		}
		uid, err := strconv.Atoi(words[7])
		if err == nil && uid != 0 && uid != os.Geteuid() {
			return errNeighbour
		}
		return nil
	}
	return nil
}

// tableAddr writes an address as the system's table has it: its octets as a number in the machine's order.
func tableAddr(a *net.TCPAddr) string {
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(a.IP.To4()), a.Port)
}
