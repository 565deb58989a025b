package etcd

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A proxied stream on which notices have stopped is dead, though etcd answers.
func TestNoticesThatStop(t *testing.T) {
	for _, row := range []struct {
		name     string
		interval time.Duration // between two notices; 0: none came
		ago      time.Duration // that the last thing came
		want     error
	}{
		{"none yet, and none due", 0, 11 * time.Minute, nil},
		{"none for very long", 0, 26 * time.Minute, errDead},
		{"they come", 5 * time.Second, 6 * time.Second, nil},
		{"three are missing", 5 * time.Second, 17 * time.Second, errDead},
	} {
		p := &proofs{stream: &stream{proxied: true, watches: 1}}
		notice := &etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{Revision: 5}}
		if row.interval > 0 {
			p.heard(notice)
			p.at = time.Now().Add(-row.interval)
			p.heard(notice)
		}
		p.at = time.Now().Add(-row.ago)
		if _, err := p.take(&place{}); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
	}
}
