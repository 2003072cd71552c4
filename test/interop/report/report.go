// Package report prints what a program saw, one JSON object a line, for the test that started it.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var mutex sync.Mutex

// Line prints one object.
func Line(value any) {
	mutex.Lock()
	defer mutex.Unlock()
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stdout, "%s\n", text)
}

type check struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// Check prints an outcome; the detail is told either way.
func Check(name string, ok bool, format string, args ...any) {
	Line(check{Check: name, OK: ok, Detail: fmt.Sprintf(format, args...)})
}

// NoError checks that something went well, and says whether it did.
func NoError(name string, err error) bool {
	Line(check{Check: name, OK: err == nil, Detail: fmt.Sprint(err)})
	return err == nil
}

// Equal checks two values by their printed form.
func Equal(name string, got, want any) {
	g, w := fmt.Sprintf("%v", got), fmt.Sprintf("%v", want)
	Check(name, g == w, "got %s, want %s", g, w)
}

// Code checks the gRPC code of a failure and, unless empty, its message.
func Code(name string, err error, code codes.Code, message string) {
	got := status.Convert(err)
	Check(name, got.Code() == code && (message == "" || got.Message() == message), "got %s %q, want %s %q", got.Code(), got.Message(), code, message)
}

// Must ends the program when a step fails that all later ones need.
func Must(step string, err error) {
	if err == nil {
		return
	}
	Check(step, false, "%v", err)
	os.Exit(1)
}

// Done ends the scenario; without this line the test knows it did not run to its end.
func Done() { Line(map[string]bool{"done": true}) }
