// Drives franz-go.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"foreignclients/agent"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

type client struct {
	broker    kgo.Opt
	admin     *kadm.Client
	producers map[string]*kgo.Client
	consumer  *kgo.Client

	mutex    sync.Mutex
	assigned map[int32]bool
	events   []any
}

func main() {
	broker := kgo.SeedBrokers(os.Args[1])
	base, err := kgo.NewClient(broker)
	if err != nil {
		panic(err)
	}
	c := &client{broker: broker, admin: kadm.NewClient(base), producers: map[string]*kgo.Client{}}
	agent.Serve("franz-go", "github.com/twmb/franz-go", c.answer)
}

func (c *client) answer(ask agent.Ask) (agent.Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), agent.Deadline)
	defer cancel()
	switch ask.Do {
	case "create":
		configs := map[string]*string{}
		for name, value := range ask.Configs {
			configs[name] = &value
		}
		_, err := c.admin.CreateTopic(ctx, ask.Partitions, 1, configs, ask.Topic)
		return nil, err
	case "delete":
		_, err := c.admin.DeleteTopic(ctx, ask.Topic)
		return nil, err
	case "describe":
		return c.describe(ctx, ask.Topic)
	case "configs":
		return c.configs(ctx, ask.Topic)
	case "alter", "alter-incremental":
		return nil, c.alter(ctx, ask)
	case "produce":
		return c.produce(ctx, ask)
	case "open":
		return nil, c.open(ctx, ask)
	case "read":
		return c.read(ask)
	case "close", "leave":
		c.consumer.Close()
		return nil, nil
	case "join":
		return nil, c.join(ask)
	case "poll":
		return c.poll(ask)
	case "commit":
		return nil, c.consumer.CommitUncommittedOffsets(ctx)
	}
	return nil, agent.Unknown(ask)
}

func (c *client) describe(ctx context.Context, topic string) (agent.Answer, error) {
	found, err := c.admin.ListTopics(ctx, topic)
	if err != nil {
		return nil, err
	}
	if err := found[topic].Err; err != nil {
		return nil, err
	}
	partitions := []any{}
	for _, it := range found[topic].Partitions {
		partitions = append(partitions, agent.Answer{"partition": it.Partition, "leader": it.Leader, "replicas": it.Replicas})
	}
	return agent.Answer{"partitions": partitions}, nil
}

func (c *client) configs(ctx context.Context, topic string) (agent.Answer, error) {
	found, err := c.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	configs := map[string]*string{}
	for _, it := range found[0].Configs {
		configs[it.Key] = it.Value
	}
	return agent.Answer{"configs": configs}, found[0].Err
}

func (c *client) alter(ctx context.Context, ask agent.Ask) error {
	steps := []kadm.AlterConfig{}
	for name, value := range ask.Set {
		steps = append(steps, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value})
	}
	call := c.admin.AlterTopicConfigs
	if ask.Do == "alter" {
		call = c.admin.AlterTopicConfigsState
	}
	done, err := call(ctx, steps, ask.Topic)
	if err != nil {
		return err
	}
	return done[0].Err
}

func (c *client) producer(ask agent.Ask) (*kgo.Client, error) {
	key := fmt.Sprint(ask.Codec, ask.Acks, ask.Idempotent)
	if found := c.producers[key]; found != nil {
		return found, nil
	}
	codec := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[ask.Codec]
	acks := map[int]kgo.Acks{0: kgo.NoAck(), 1: kgo.LeaderAck(), -1: kgo.AllISRAcks()}[ask.Acks]
	options := []kgo.Opt{
		c.broker, kgo.ProducerBatchCompression(codec), kgo.RequiredAcks(acks), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(8 << 20), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(5 * time.Millisecond),
	}
	if !ask.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	made, err := kgo.NewClient(options...)
	c.producers[key] = made
	return made, err
}

func (c *client) produce(ctx context.Context, ask agent.Ask) (agent.Answer, error) {
	producer, err := c.producer(ask)
	if err != nil {
		return nil, err
	}
	results := agent.Results(len(ask.Records))
	for place, it := range ask.Records {
		record := &kgo.Record{Topic: ask.Topic, Partition: it.Partition, Key: it.Key, Value: it.Value}
		if it.Timestamp != nil {
			record.Timestamp = time.UnixMilli(*it.Timestamp)
		}
		for _, header := range it.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
		}
		producer.Produce(ctx, record, func(done *kgo.Record, err error) {
			if err != nil {
				results[place] = err.Error()
			} else if ask.Acks != 0 {
				results[place] = done.Offset
			}
		})
	}
	return agent.Answer{"results": results}, producer.Flush(ctx)
}

func (c *client) open(ctx context.Context, ask agent.Ask) error {
	var offset int64
	switch {
	case ask.Offset != nil:
		offset = *ask.Offset
	case ask.End:
		found, err := c.admin.ListEndOffsets(ctx, ask.Topic)
		if err != nil {
			return err
		}
		offset = found[ask.Topic][ask.Partition].Offset
	default:
		found, err := c.admin.ListOffsetsAfterMilli(ctx, *ask.Timestamp, ask.Topic)
		if err != nil {
			return err
		}
		offset = found[ask.Topic][ask.Partition].Offset
	}
	where := map[string]map[int32]kgo.Offset{ask.Topic: {ask.Partition: kgo.NewOffset().At(offset)}}
	made, err := kgo.NewClient(c.broker, kgo.ConsumePartitions(where))
	c.consumer = made
	return err
}

func (c *client) take(until time.Time, count int) ([]agent.Record, error) {
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	found := []agent.Record{}
	fetches := c.consumer.PollRecords(ctx, count)
	for _, it := range fetches.Errors() {
		if !errors.Is(it.Err, context.DeadlineExceeded) && !kerr.IsRetriable(it.Err) {
			return nil, it.Err
		}
	}
	fetches.EachRecord(func(it *kgo.Record) {
		timestamp, headers := it.Timestamp.UnixMilli(), []agent.Header{}
		for _, header := range it.Headers {
			headers = append(headers, agent.Header{Name: header.Key, Value: header.Value})
		}
		found = append(found, agent.Record{Partition: it.Partition, Offset: it.Offset, Timestamp: &timestamp, Key: it.Key, Value: it.Value, Headers: headers})
	})
	return found, nil
}

func (c *client) read(ask agent.Ask) (agent.Answer, error) {
	found, until := []agent.Record{}, ask.Until()
	for len(found) < ask.Count && time.Now().Before(until) {
		more, err := c.take(until, ask.Count-len(found))
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return agent.Answer{"records": found}, nil
}

func (c *client) join(ask agent.Ask) error {
	c.assigned = map[int32]bool{}
	keep := func(kind string, owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			c.mutex.Lock()
			defer c.mutex.Unlock()
			c.events = append(c.events, agent.Event(kind, changed[ask.Topic]))
			for _, it := range changed[ask.Topic] {
				c.assigned[it] = owned
			}
		}
	}
	balancer := kgo.RangeBalancer()
	if ask.Cooperative {
		balancer = kgo.CooperativeStickyBalancer()
	}
	options := []kgo.Opt{
		c.broker, kgo.ConsumerGroup(ask.Group), kgo.ConsumeTopics(ask.Topic), kgo.Balancers(balancer), kgo.DisableAutoCommit(),
		kgo.SessionTimeout(ask.Session()), kgo.HeartbeatInterval(agent.Heartbeat), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(keep("assigned", true)), kgo.OnPartitionsRevoked(keep("revoked", false)), kgo.OnPartitionsLost(keep("revoked", false)),
	}
	if ask.Instance != "" {
		options = append(options, kgo.InstanceID(ask.Instance))
	}
	made, err := kgo.NewClient(options...)
	c.consumer = made
	return err
}

func (c *client) poll(ask agent.Ask) (agent.Answer, error) {
	records, err := c.take(ask.Until(), 500)
	if err != nil {
		return nil, err
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	assigned, events := []int32{}, c.events
	for partition, owned := range c.assigned {
		if owned {
			assigned = append(assigned, partition)
		}
	}
	c.events = nil
	return agent.Answer{"assigned": assigned, "events": append([]any{}, events...), "records": records}, nil
}
