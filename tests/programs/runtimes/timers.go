// 1,000 goroutines with timers, channels, a mutex and garbage: preemption by SIGURG, futexes, netpoll's epoll.
package main

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

func spin(n int) uint64 {
	x := uint64(n)*2862933555777941757 + 3037000493
	for i := 0; i < 20000; i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

func main() {
	runtime.GOMAXPROCS(4)
	var fired, late int64
	var sum uint64
	var wg sync.WaitGroup
	var mu sync.Mutex
	kept := map[int][]byte{}
	results := make(chan uint64, 16)
	stop := make(chan struct{})
	go func() { // never yields by itself: only a signal can take it off its thread
		x := uint64(1)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for i := 0; i < 50000000; i++ {
				x = x*6364136223846793005 + 1
			}
			atomic.AddInt64(&late, int64(x&1))
		}
	}()
	for i := 0; i < 1000; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			for r := 0; r < 3; r++ {
				timer := time.NewTimer(time.Duration(1+(i*7+r*13)%20) * time.Millisecond)
				<-timer.C
				atomic.AddInt64(&fired, 1)
				b := make([]byte, 1000+i)
				b[i] = byte(r)
				mu.Lock()
				kept[i%100] = b
				mu.Unlock()
			}
			results <- spin(i)
		}(i)
	}
	done := make(chan bool)
	go func() {
		for x := range results {
			sum ^= x
		}
		done <- true
	}()
	for i := 0; i < 5; i++ {
		runtime.GC()
	}
	wg.Wait()
	close(results)
	<-done
	close(stop)
	func() {
		defer func() { fmt.Println("recovered:", recover()) }()
		var p *int
		*p = 1 // a SIGSEGV that becomes a panic
	}()
	fmt.Println(fired, fmt.Sprintf("%016x", sum), len(kept))
}
