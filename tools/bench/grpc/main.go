// SPDX-License-Identifier: Apache-2.0

// grpc: unary calls of `make bench`, a pair of processes per run.
//
//	grpc server ENDPOINT
//	grpc client ENDPOINT --calls N --size BYTES --seconds S
//
// ENDPOINT: 10.0.0.1:80 or unix:/path. The client keeps N calls in flight on one connection and prints one
// JSON line. Messages are protobuf's BytesValue, so that there is no generated code to keep.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const method = "/weft.bench.Echo/Unary"

func unary(_ interface{}, _ context.Context, decode func(interface{}) error,
	_ grpc.UnaryServerInterceptor) (interface{}, error) {
	request := new(wrapperspb.BytesValue)
	return request, decode(request)
}

func serve(endpoint string) error {
	network, address := "tcp", endpoint
	if path := strings.TrimPrefix(endpoint, "unix:"); path != endpoint {
		network, address = "unix", path
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "weft.bench.Echo",
		HandlerType: (*interface{})(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}},
	}, nil)
	return server.Serve(listener)
}

// caller makes one call after the other until the deadline; a wrong answer is an error.
func caller(connection *grpc.ClientConn, payload []byte, deadline time.Time) ([]float64, error) {
	var took []float64
	for start := time.Now(); start.Before(deadline); {
		answer := new(wrapperspb.BytesValue)
		err := connection.Invoke(context.Background(), method, wrapperspb.Bytes(payload), answer)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(answer.GetValue(), payload) {
			return nil, errors.New("the answer is not what was sent")
		}
		now := time.Now()
		took = append(took, float64(now.Sub(start))/1e3)
		start = now
	}
	return took, nil
}

func call(endpoint string, calls, size int, seconds float64) error {
	connection, err := grpc.NewClient("passthrough:"+endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var dialer net.Dialer
			if path := strings.TrimPrefix(endpoint, "unix:"); path != endpoint {
				return dialer.DialContext(ctx, "unix", path)
			}
			return dialer.DialContext(ctx, "tcp", endpoint)
		}))
	if err != nil {
		return err
	}
	defer connection.Close()
	payload := bytes.Repeat([]byte{'w'}, size)
	if _, err = caller(connection, payload, time.Now().Add(time.Millisecond)); err != nil {
		return err // it stands now: what is measured has no handshake in it
	}
	var (
		lock  sync.Mutex
		group sync.WaitGroup
		all   []float64
	)
	start := time.Now()
	for i := 0; i < calls; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			took, failed := caller(connection, payload, start.Add(time.Duration(seconds*1e9)))
			lock.Lock()
			defer lock.Unlock()
			all = append(all, took...)
			if failed != nil {
				err = failed
			}
		}()
	}
	group.Wait()
	spent := time.Since(start).Seconds()
	if err != nil {
		return err
	}
	sort.Float64s(all)
	return json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"test": "grpc", "calls": calls, "size": size, "count": len(all), "seconds": spent,
		"per_second": float64(len(all)) / spent, "p50_us": all[len(all)/2], "p99_us": all[len(all)*99/100],
	})
}

func main() {
	var (
		err     error
		flags   = flag.NewFlagSet("grpc", flag.ExitOnError)
		calls   = flags.Int("calls", 1, "calls in flight")
		size    = flags.Int("size", 100, "bytes of a message")
		seconds = flags.Float64("seconds", 1, "length of the run")
	)
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "grpc: usage: grpc server|client ENDPOINT [--calls N] [--size BYTES] [--seconds S]")
		os.Exit(2)
	}
	if err = flags.Parse(os.Args[3:]); err == nil {
		switch os.Args[1] {
		case "server":
			err = serve(os.Args[2])
		case "client":
			err = call(os.Args[2], *calls, *size, *seconds)
		default:
			err = fmt.Errorf("%s is neither server nor client", os.Args[1])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "grpc:", err)
		os.Exit(1)
	}
}
