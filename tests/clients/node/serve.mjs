// What the agents for Node share: one JSON object per line in, one out, in order.
import { createInterface } from 'node:readline'

export const HEARTBEAT_MS = 500

export const pack = it => (it === null || it === undefined ? null : Buffer.from(it).toString('base64'))
export const unpack = it => (it === null ? null : Buffer.from(it, 'base64'))
export const sleep = ms => new Promise(done => setTimeout(done, ms))

/** Waits until `done()` or for that many seconds. */
export async function until(seconds, done) {
  const end = Date.now() + seconds * 1000
  while (!done() && Date.now() < end) await sleep(5)
}

/** Answers requests with the function of that name until the driver closes our input. */
export async function serve(client, version, verbs) {
  const write = process.stdout.write.bind(process.stdout)
  // The library may print; only answers may reach the driver.
  process.stdout.write = process.stderr.write.bind(process.stderr)
  const say = it => write(JSON.stringify(it) + '\n')
  say({ client, version })
  for await (const line of createInterface({ input: process.stdin })) {
    const ask = JSON.parse(line)
    try {
      say({ ok: (await verbs[ask.do](ask)) ?? {} })
    } catch (failure) {
      const causes = (failure.errors ?? []).map(it => `; ${it.message}`).join('')
      say({ error: `${failure.name}: ${failure.message}${causes}` })
    }
  }
  process.exit(0)
}
