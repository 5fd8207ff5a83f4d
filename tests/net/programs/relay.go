// SPDX-License-Identifier: Apache-2.0

// relay PORT TO: passes each connection on to the address TO by io.Copy both ways, which reads a socket by splice(2).
//
// relay -head|-late PORT TO: first reads lines itself and answers each with itself, as a proxy reads the head of a request
// and a server speaks before an upgrade; after the line GO it turns to io.Copy. So it is known as a reader by read(2)
// until then. With -late it waits 50 ms before, as a proxy does whose upstream is far away: what comes meanwhile waits.
//
// relay -talk HOST:PORT SECONDS BYTES: blocking.py's client job.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"strconv"
	"time"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// head answers lines by read(2), a byte range at a time, and gives what was read beyond the line GO.
func head(c *net.TCPConn) ([]byte, error) {
	buffer := make([]byte, 4096)
	have := []byte{}
	for {
		at := bytes.IndexByte(have, '\n')
		if at < 0 {
			n, err := c.Read(buffer)
			if err != nil {
				return nil, err
			}
			have = append(have, buffer[:n]...)
			continue
		}
		line := have[:at+1]
		have = have[at+1:]
		if _, err := c.Write(line); err != nil {
			return nil, err
		}
		if string(line) == "GO\n" {
			return have, nil
		}
	}
}

// pass copies one direction to its end. An error ends both directions, with a reset, so that nobody takes
// what arrived for everything.
func pass(to, from *net.TCPConn, done chan<- bool) {
	_, err := io.Copy(to, from)
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		to.SetLinger(0)
		from.SetLinger(0)
		to.Close()
		from.Close()
	} else {
		to.CloseWrite()
	}
	done <- true
}

func relay(c *net.TCPConn, to string, reads bool, wait time.Duration) {
	defer c.Close()
	var early []byte
	var err error
	if reads {
		if early, err = head(c); err != nil {
			return
		}
	}
	time.Sleep(wait)
	up, err := net.Dial("tcp", to)
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		return
	}
	server := up.(*net.TCPConn)
	defer server.Close()
	if _, err = server.Write(early); err != nil {
		return
	}
	done := make(chan bool)
	go pass(server, c, done)
	go pass(c, server, done)
	<-done
	<-done
}

func serve(port, to string, reads bool, wait time.Duration) {
	listener, err := net.Listen("tcp4", "0.0.0.0:"+port)
	check(err)
	for {
		c, err := listener.Accept()
		check(err)
		go relay(c.(*net.TCPConn), to, reads, wait)
	}
}

func talk(to string, seconds float64, size int) {
	up, err := net.Dial("tcp", to)
	check(err)
	c := up.(*net.TCPConn)
	random := rand.New(rand.NewSource(5))
	until := time.Now().Add(time.Duration(seconds * 1e9))
	back := make([]byte, 3000)
	for time.Now().Before(until) {
		message := make([]byte, 1+random.Intn(3000))
		random.Read(message)
		_, err = c.Write(message)
		check(err)
		_, err = io.ReadFull(c, back[:len(message)])
		check(err)
		if !bytes.Equal(message, back[:len(message)]) {
			check(fmt.Errorf("another message came back"))
		}
	}
	data := make([]byte, size)
	random = rand.New(rand.NewSource(6))
	random.Read(data)
	go func() {
		_, err := c.Write(data)
		check(err)
		check(c.CloseWrite())
	}()
	got, err := io.ReadAll(c)
	check(err)
	if !bytes.Equal(data, got) {
		check(fmt.Errorf("other bytes came back: %d of %d", len(got), size))
	}
	fmt.Printf("%x\n", sha256.Sum256(got))
}

func main() {
	args := os.Args[1:]
	switch args[0] {
	case "-head":
		serve(args[1], args[2], true, 0)
	case "-late":
		serve(args[1], args[2], true, 50*time.Millisecond)
	case "-talk":
		seconds, err := strconv.ParseFloat(args[2], 64)
		check(err)
		size, err := strconv.Atoi(args[3])
		check(err)
		talk(args[1], seconds, size)
	default:
		serve(args[0], args[1], false, 0)
	}
}
