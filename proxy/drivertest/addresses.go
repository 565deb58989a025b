package drivertest

import (
	"net"
)

// addresses are what the variables of a case stand for. free gives them back.
func addresses(r *rig) (vars map[string]string, free func(), err error) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	dead.Close()
	return map[string]string{"ORIGIN": r.l.Addr().String(), "DEAD": dead.Addr().String()}, func() {}, nil
}
