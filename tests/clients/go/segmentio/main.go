// Drives segmentio/kafka-go: Writer, Reader, and its group below the Reader, which shows what was assigned.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"foreignclients/agent"

	"github.com/segmentio/kafka-go"
)

// Larger than any batch of the cases.
const readBytesMax = 8 << 20

// How old the metadata may be that kafka-go answers from its own memory.
const cacheAge = 100 * time.Millisecond

// kafka-go leaves it to its user to wait for a topic it does not know yet.
const (
	unknownTries = 300
	unknownPause = 2 * cacheAge
)

func patiently(try func() error) error {
	err := try()
	for tries := 1; errors.Is(err, kafka.UnknownTopicOrPartition) && tries < unknownTries; tries++ {
		time.Sleep(unknownPause)
		err = try()
	}
	return err
}

type client struct {
	broker  string
	low     *kafka.Client
	writers map[string]*kafka.Writer
	reader  *kafka.Reader

	group      *kafka.ConsumerGroup
	stop       context.CancelFunc
	mutex      sync.Mutex
	generation *kafka.Generation
	assigned   []int32
	events     []any
	records    []agent.Record
	positions  map[int]int64
	topic      string
}

func main() {
	broker := os.Args[1]
	low := &kafka.Client{Addr: kafka.TCP(broker), Timeout: agent.Deadline, Transport: &kafka.Transport{MetadataTTL: cacheAge}}
	c := &client{broker: broker, low: low, writers: map[string]*kafka.Writer{}}
	agent.Serve("kafka-go", "github.com/segmentio/kafka-go", c.answer)
}

func (c *client) answer(ask agent.Ask) (agent.Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), agent.Deadline)
	defer cancel()
	switch ask.Do {
	case "create":
		return nil, c.create(ctx, ask)
	case "delete":
		done, err := c.low.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{ask.Topic}})
		return nil, first(err, func() error { return done.Errors[ask.Topic] })
	case "describe":
		return c.describe(ctx, ask.Topic)
	case "configs":
		return c.configs(ctx, ask.Topic)
	case "alter":
		return nil, c.alter(ctx, ask)
	case "alter-incremental":
		return nil, c.alterIncremental(ctx, ask)
	case "produce":
		return c.produce(ctx, ask)
	case "open":
		return nil, c.open(ctx, ask)
	case "read":
		return c.read(ask)
	case "close":
		return nil, c.reader.Close()
	case "join":
		return nil, c.join(ask)
	case "poll":
		return c.poll(ask), nil
	case "commit":
		c.mutex.Lock()
		defer c.mutex.Unlock()
		return nil, c.generation.CommitOffsets(map[string]map[int]int64{c.topic: c.positions})
	case "leave":
		c.stop()
		return nil, c.group.Close()
	}
	return nil, agent.Unknown(ask)
}

// first returns the transport's error, or else the one inside the answer.
func first(err error, inside func() error) error {
	if err != nil {
		return err
	}
	return inside()
}

func (c *client) create(ctx context.Context, ask agent.Ask) error {
	wanted := kafka.TopicConfig{Topic: ask.Topic, NumPartitions: int(ask.Partitions), ReplicationFactor: 1}
	for name, value := range ask.Configs {
		wanted.ConfigEntries = append(wanted.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	done, err := c.low.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{wanted}})
	return first(err, func() error { return done.Errors[ask.Topic] })
}

func (c *client) describe(ctx context.Context, topic string) (agent.Answer, error) {
	found, err := c.low.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err := first(err, func() error { return found.Topics[0].Error }); err != nil {
		return nil, err
	}
	partitions := []any{}
	for _, it := range found.Topics[0].Partitions {
		replicas := []int{}
		for _, node := range it.Replicas {
			replicas = append(replicas, node.ID)
		}
		partitions = append(partitions, agent.Answer{"partition": it.ID, "leader": it.Leader.ID, "replicas": replicas})
	}
	return agent.Answer{"partitions": partitions}, nil
}

func (c *client) configs(ctx context.Context, topic string) (agent.Answer, error) {
	resource := kafka.DescribeConfigRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}
	found, err := c.low.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{resource}})
	if err := first(err, func() error { return found.Resources[0].Error }); err != nil {
		return nil, err
	}
	configs := map[string]string{}
	for _, it := range found.Resources[0].ConfigEntries {
		configs[it.ConfigName] = it.ConfigValue
	}
	return agent.Answer{"configs": configs}, nil
}

func (c *client) alter(ctx context.Context, ask agent.Ask) error {
	resource := kafka.AlterConfigRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: ask.Topic}
	for name, value := range ask.Set {
		resource.Configs = append(resource.Configs, kafka.AlterConfigRequestConfig{Name: name, Value: value})
	}
	done, err := c.low.AlterConfigs(ctx, &kafka.AlterConfigsRequest{Resources: []kafka.AlterConfigRequestResource{resource}})
	return first(err, func() error {
		for _, it := range done.Errors {
			return it
		}
		return nil
	})
}

func (c *client) alterIncremental(ctx context.Context, ask agent.Ask) error {
	resource := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: ask.Topic}
	for name, value := range ask.Set {
		step := kafka.IncrementalAlterConfigsRequestConfig{Name: name, Value: value, ConfigOperation: kafka.ConfigOperationSet}
		resource.Configs = append(resource.Configs, step)
	}
	all := []kafka.IncrementalAlterConfigsRequestResource{resource}
	done, err := c.low.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: all})
	return first(err, func() error { return done.Resources[0].Error })
}

// wanted sends a message to the partition the driver named.
type wanted struct{}

func (wanted) Balance(message kafka.Message, _ ...int) int {
	return int(message.WriterData.(int32))
}

func (c *client) writer(ask agent.Ask) *kafka.Writer {
	key := fmt.Sprint(ask.Codec, ask.Acks)
	if c.writers[key] == nil {
		codec := map[string]kafka.Compression{
			"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
		}[ask.Codec]
		c.writers[key] = &kafka.Writer{
			Addr: kafka.TCP(c.broker), Balancer: wanted{}, Compression: codec, RequiredAcks: kafka.RequiredAcks(ask.Acks),
			BatchBytes: 8 << 20, BatchTimeout: 5 * time.Millisecond, AllowAutoTopicCreation: true,
		}
	}
	return c.writers[key]
}

func (c *client) produce(ctx context.Context, ask agent.Ask) (agent.Answer, error) {
	results := agent.Results(len(ask.Records))
	messages := []kafka.Message{}
	for _, it := range ask.Records {
		message := kafka.Message{Topic: ask.Topic, Key: it.Key, Value: it.Value, WriterData: it.Partition}
		if it.Timestamp != nil {
			message.Time = time.UnixMilli(*it.Timestamp)
		}
		for _, header := range it.Headers {
			message.Headers = append(message.Headers, kafka.Header{Key: header.Name, Value: header.Value})
		}
		messages = append(messages, message)
	}
	err := patiently(func() error { return c.writer(ask).WriteMessages(ctx, messages...) })
	var each kafka.WriteErrors
	for place := range results {
		switch {
		case errors.As(err, &each):
			if each[place] != nil {
				results[place] = each[place].Error()
			}
		case err != nil:
			results[place] = err.Error()
		}
	}
	return agent.Answer{"results": results}, nil
}

func (c *client) open(ctx context.Context, ask agent.Ask) error {
	c.reader = kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{c.broker}, Topic: ask.Topic, Partition: int(ask.Partition),
		MinBytes: 1, MaxBytes: readBytesMax, MaxWait: 500 * time.Millisecond,
	})
	switch {
	case ask.Offset != nil:
		return c.reader.SetOffset(*ask.Offset)
	case ask.Timestamp != nil:
		return c.reader.SetOffsetAt(ctx, time.UnixMilli(*ask.Timestamp))
	}
	conn, err := kafka.DialLeader(ctx, "tcp", c.broker, ask.Topic, int(ask.Partition))
	if err != nil {
		return err
	}
	defer conn.Close()
	end, err := conn.ReadLastOffset()
	return first(err, func() error { return c.reader.SetOffset(end) })
}

func received(it kafka.Message) agent.Record {
	timestamp, headers := it.Time.UnixMilli(), []agent.Header{}
	for _, header := range it.Headers {
		headers = append(headers, agent.Header{Name: header.Key, Value: header.Value})
	}
	return agent.Record{Partition: int32(it.Partition), Offset: it.Offset, Timestamp: &timestamp, Key: it.Key, Value: it.Value, Headers: headers}
}

func (c *client) read(ask agent.Ask) (agent.Answer, error) {
	ctx, cancel := context.WithDeadline(context.Background(), ask.Until())
	defer cancel()
	found := []agent.Record{}
	for len(found) < ask.Count {
		it, err := c.reader.ReadMessage(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil {
			return nil, err
		}
		found = append(found, received(it))
	}
	return agent.Answer{"records": found}, nil
}

func (c *client) join(ask agent.Ask) error {
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: ask.Group, Brokers: []string{c.broker}, Topics: []string{ask.Topic}, StartOffset: kafka.FirstOffset,
		SessionTimeout: ask.Session(), HeartbeatInterval: agent.Heartbeat, JoinGroupBackoff: time.Second, Timeout: agent.Deadline,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.group, c.stop, c.topic, c.positions = group, cancel, ask.Topic, map[int]int64{}
	go c.follow(ctx)
	return nil
}

// follow takes part in one generation after the other.
func (c *client) follow(ctx context.Context) {
	for ctx.Err() == nil {
		generation, err := c.group.Next(ctx)
		if err != nil {
			time.Sleep(agent.Heartbeat)
			continue
		}
		c.begin(generation)
		for _, it := range generation.Assignments[c.topic] {
			generation.Start(func(ctx context.Context) { c.consume(ctx, it) })
		}
	}
}

func (c *client) begin(generation *kafka.Generation) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.events = append(c.events, agent.Event("revoked", c.assigned))
	c.generation, c.assigned, c.positions = generation, nil, map[int]int64{}
	for _, it := range generation.Assignments[c.topic] {
		c.assigned = append(c.assigned, int32(it.ID))
	}
	c.events = append(c.events, agent.Event("assigned", c.assigned))
}

func (c *client) consume(ctx context.Context, where kafka.PartitionAssignment) {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{c.broker}, Topic: c.topic, Partition: where.ID, MinBytes: 1, MaxBytes: readBytesMax, MaxWait: 500 * time.Millisecond,
	})
	defer reader.Close()
	reader.SetOffset(where.Offset)
	for {
		it, err := reader.ReadMessage(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			time.Sleep(agent.Heartbeat)
			continue
		}
		c.mutex.Lock()
		c.records = append(c.records, received(it))
		c.mutex.Unlock()
	}
}

func (c *client) poll(ask agent.Ask) agent.Answer {
	time.Sleep(time.Until(ask.Until()))
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for _, it := range c.records {
		c.positions[int(it.Partition)] = it.Offset + 1
	}
	answer := agent.Answer{
		"assigned": append([]int32{}, c.assigned...), "events": append([]any{}, c.events...), "records": append([]agent.Record{}, c.records...),
	}
	c.events, c.records = nil, nil
	return answer
}
