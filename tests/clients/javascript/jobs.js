/**
 * Jobs as users of JavaScript write them; `node jobs.js JOB QUEUE_URL` does one and prints, as
 * JSON, what it saw. Where the server is and who asks comes from the SDK's own variables.
 */

import {
  CreateQueueCommand,
  DeleteQueueCommand,
  GetQueueUrlCommand,
  paginateListQueues,
  QueueDoesNotExist,
  ReceiveMessageCommand,
  SendMessageCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";
import { Producer } from "sqs-producer";

const MESSAGES = 100;
const DEADLINE_MS = 30_000;

/** Runs a consumer until `isDone` says so; resolves to the number of times each body was handled. */
function consume(options, handle, isDone) {
  const handled = {};
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`not done in time: ${JSON.stringify(handled)}`)), DEADLINE_MS);
    const consumer = Consumer.create({
      ...options,
      waitTimeSeconds: 1,
      pollingCompleteWaitTimeMs: 5_000,
      handleMessage: async (message) => {
        handled[message.Body] = (handled[message.Body] ?? 0) + 1;
        await handle(message, handled[message.Body]);
        return message;
      },
    });
    consumer.on("error", reject);
    consumer.on("response_processed", () => isDone(handled) && consumer.stop());
    consumer.on("stopped", () => {
      clearTimeout(late);
      resolve(handled);
    });
    consumer.start();
  });
}

const jobs = {
  /** Every tenth message fails once, and is made visible again. */
  async many(queueUrl) {
    const producer = Producer.create({ queueUrl });
    const numbers = [...Array(MESSAGES).keys()];
    const sent = await producer.send(
      numbers.map((number) => ({
        id: `id-${number}`,
        body: `${number} — Grüße 🚉`,
        messageAttributes: { number: { DataType: "Number", StringValue: String(number) } },
      })),
    );
    const attributes = {};
    const failures = [];
    const options = {
      queueUrl,
      batchSize: 10,
      terminateVisibilityTimeout: true,
      messageAttributeNames: ["All"],
      messageSystemAttributeNames: ["ApproximateReceiveCount"],
    };
    const handled = await consume(
      options,
      async (message, times) => {
        const number = Number(message.MessageAttributes.number.StringValue);
        attributes[message.Body] = number;
        if (number % 10 === 0 && times === 1) {
          failures.push(message.Attributes.ApproximateReceiveCount);
          throw new Error("the first time");
        }
      },
      // The last to come back are handled and deleted within one response.
      (handled) => Object.keys(handled).length === MESSAGES && total(handled) === MESSAGES + MESSAGES / 10,
    );
    return { sent: sent.length, handled, attributes, failures, left: await producer.queueSize() };
  },

  /** One message takes longer than its visibility timeout, which heartbeats extend. */
  async long(queueUrl) {
    await Producer.create({ queueUrl }).send({ id: "long", body: "takes long" });
    // No heartbeat falls due when the job ends: its message is deleted then.
    const options = { queueUrl, visibilityTimeout: 3, heartbeatInterval: 1.5 };
    const meanwhile = [];
    const other = new SQSClient({});
    const handled = await consume(
      options,
      async () => {
        // Somebody else asks for it for all that time.
        const answer = await other.send(new ReceiveMessageCommand({ QueueUrl: queueUrl, WaitTimeSeconds: 5 }));
        meanwhile.push(...(answer.Messages ?? []));
      },
      () => true,
    );
    return { handled, meanwhile };
  },

  /** What the SDK itself makes of answers: checksums, pages, errors as classes. */
  async sdk() {
    const sqs = new SQSClient({});
    const names = ["a", "b", "c"].map((letter) => `javascript-page-${letter}`);
    const urls = [];
    for (const QueueName of names) {
      urls.push((await sqs.send(new CreateQueueCommand({ QueueName, tags: { of: "tests" } }))).QueueUrl);
    }
    const pages = [];
    for await (const page of paginateListQueues({ client: sqs, pageSize: 2 }, { QueueNamePrefix: "javascript-page-" })) {
      pages.push(page.QueueUrls);
    }
    const MessageBody = "ü".repeat(100_000);
    const binary = { DataType: "Binary", BinaryValue: new Uint8Array([0, 1, 255]) };
    await sqs.send(new SendMessageCommand({ QueueUrl: urls[0], MessageBody, MessageAttributes: { binary } }));
    const { Messages } = await sqs.send(
      new ReceiveMessageCommand({ QueueUrl: urls[0], MessageAttributeNames: ["All"], WaitTimeSeconds: 5 }),
    );
    for (const QueueUrl of urls) {
      await sqs.send(new DeleteQueueCommand({ QueueUrl }));
    }
    const error = await sqs.send(new GetQueueUrlCommand({ QueueName: names[0] })).catch((refused) => refused);
    return {
      urls,
      pages,
      bodyIsSame: Messages[0].Body === MessageBody,
      binary: [...Messages[0].MessageAttributes.binary.BinaryValue],
      error: { isOfItsClass: error instanceof QueueDoesNotExist, name: error.name, status: error.$metadata.httpStatusCode },
    };
  },
};

function total(counts) {
  return Object.values(counts).reduce((sum, times) => sum + times, 0);
}

const [job, queueUrl] = process.argv.slice(2);
console.log(JSON.stringify(await jobs[job](queueUrl)));
