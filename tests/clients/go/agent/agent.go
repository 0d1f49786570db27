// Package agent is what every Go client program shares: one JSON object per line in, one out, in order.
package agent

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"time"
)

// Heartbeat of a group member; short, so that a rebalance is noticed soon.
const Heartbeat = 500 * time.Millisecond

// Deadline bounds every single call of a client.
const Deadline = 120 * time.Second

// Record as the driver sends and compares it. A byte slice travels as base64, nil as null.
type Record struct {
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Timestamp *int64   `json:"timestamp"`
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Headers   []Header `json:"headers"`
}

// Header is a pair of name and value.
type Header struct {
	Name  string
	Value []byte
}

// UnmarshalJSON reads ["name", "base64"].
func (h *Header) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&h.Name, &h.Value})
}

// MarshalJSON writes ["name", "base64"].
func (h Header) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{h.Name, h.Value})
}

// Ask is a request; which fields count depends on Do.
type Ask struct {
	Do          string
	Topic       string
	Partitions  int32
	Configs     map[string]string
	Set         map[string]string
	Codec       string
	Acks        int
	Idempotent  bool
	Records     []Record
	Partition   int32
	Offset      *int64
	Timestamp   *int64
	End         bool
	Count       int
	Seconds     float64
	Group       string
	Instance    string
	Cooperative bool
	SessionMS   int `json:"session_ms"`
}

// Session is the session time-out that was asked for.
func (a Ask) Session() time.Duration {
	return time.Duration(a.SessionMS) * time.Millisecond
}

// Until is the moment a `read` or `poll` must answer.
func (a Ask) Until() time.Time {
	return time.Now().Add(time.Duration(a.Seconds * float64(time.Second)))
}

// Answer is an object of results.
type Answer map[string]any

// Results of a produce request: an offset, nil when the client does not say it, or the text of an error.
func Results(count int) []any {
	return make([]any, count)
}

// Event is what a group gave or took: ["assigned" or "revoked", partitions].
func Event(kind string, partitions []int32) []any {
	return []any{kind, append([]int32{}, partitions...)}
}

// Serve answers requests until the driver closes our input. `module` names the client in go.mod.
func Serve(client, module string, answer func(Ask) (Answer, error)) {
	out := bufio.NewWriter(os.Stdout)
	say := func(it any) {
		line, err := json.Marshal(it)
		if err != nil {
			panic(err)
		}
		out.Write(append(line, '\n'))
		out.Flush()
	}
	say(Answer{"client": client, "version": version(module)})
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var ask Ask
		if in.Decode(&ask) != nil {
			os.Exit(0)
		}
		result, err := answer(ask)
		switch {
		case err != nil:
			say(Answer{"error": err.Error()})
		case result == nil:
			say(Answer{"ok": Answer{}})
		default:
			say(Answer{"ok": result})
		}
	}
}

// Unknown is the error for a request this client does not serve.
func Unknown(ask Ask) error {
	return fmt.Errorf("no such request: %s", ask.Do)
}

func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, it := range info.Deps {
		if it.Path == module {
			return it.Version
		}
	}
	return "unknown"
}
