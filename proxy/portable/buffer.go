// This file runs once per request.

package portable

import "sync"

// How much a block holds. Small ones are for heads; large ones for bodies: they
// have room before what is read, for the head and the size line that are written
// in front of it. All have room behind it, for the end of a chunk.
const (
	smallBlock = 4 << 10
	largeBlock = headroom + 32<<10 + tailroom
	hugeBlock  = 128 << 10

	headroom = 1 << 10
	tailroom = 32
)

// A block is memory for a buffer, from a pool for its size.
type block struct {
	p    []byte
	pool *sync.Pool // nil: of an odd size
}

func blocks(size int) *sync.Pool {
	p := new(sync.Pool)
	p.New = func() any { return &block{make([]byte, size), p} }
	return p
}

var (
	small = blocks(smallBlock)
	large = blocks(largeBlock)
	huge  = blocks(hugeBlock)
)

// blockFor returns a block of at least n bytes.
func blockFor(n int) *block {
	switch {
	case n <= smallBlock:
		return small.Get().(*block)
	case n <= largeBlock:
		return large.Get().(*block)
	case n <= hugeBlock:
		return huge.Get().(*block)
	}
	return &block{p: make([]byte, n)}
}

// A buffer is what was read and not used yet, or what is to be written: the
// bytes from r to w of its block. The zero value is empty and holds no memory.
type buffer struct {
	*block
	r, w int
}

func (b *buffer) bytes() []byte {
	if b.block == nil {
		return nil
	}
	return b.p[b.r:b.w]
}
func (b *buffer) len() int { return b.w - b.r }

// free is the room to read into.
func (b *buffer) free() []byte {
	if b.block == nil {
		return nil
	}
	return b.p[b.w:max(b.w, len(b.p)-tailroom)]
}

// hold makes sure of memory: a large block is used from its headroom on.
func (b *buffer) hold(size int) {
	if b.block == nil {
		b.block = blockFor(size)
		b.r = 0
		if size == largeBlock {
			b.r = headroom
		}
		b.w = b.r
	}
}

// release gives the memory back.
func (b *buffer) release() {
	if b.block != nil && b.pool != nil {
		b.pool.Put(b.block)
	}
	*b = buffer{}
}

// grow moves what is there to a block into which n more bytes can be read.
func (b *buffer) grow(n int) {
	if len(b.free()) >= n {
		return
	}
	var bigger buffer
	bigger.block = blockFor(b.len() + n + tailroom)
	bigger.w = copy(bigger.p, b.bytes())
	b.release()
	*b = bigger
}

// append writes p behind what is there.
func (b *buffer) append(p []byte) {
	b.grow(len(p))
	b.w += copy(b.p[b.w:], p)
}
