// One workload: answers on 8080 and 9000 whatever ends like an HTTP request, and calls others when told to by a line on its standard
// input. The same bytes are HTTP to a proxy that reads it and just bytes to one that does not.
import { connect, createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { percentile } from '../measure/statistics.ts'

export interface LoadOrder {
  readonly host: string
  readonly port: number
  /** Each has one request under way at a time. */
  readonly connections: number
  /** Stops at whichever comes first. */
  readonly forMs: number
  readonly requests: number
}

export interface LoadFigures {
  readonly requests: number
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** From before connecting to the first answer, of the first connection. */
  readonly firstMs: number
  readonly failure?: string
}

const request = 'GET / HTTP/1.1\r\nhost: bench\r\n\r\n'
const body = 'x'.repeat(1_023) + '!'
const answer = `HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`
const endOfRequest = '\r\n\r\n'

if (import.meta.main) {
  const serve = (socket: Socket) => {
    let rest = ''
    socket.setEncoding('latin1').on('error', () => {}).on('data', (text: string) => {
      rest += text
      for (let at = rest.indexOf(endOfRequest); at >= 0; at = rest.indexOf(endOfRequest)) {
        rest = rest.slice(at + endOfRequest.length)
        socket.write(answer)
      }
    })
  }
  await Promise.all([8080, 9000].map(port => new Promise<void>(resolve => {
    createServer({ noDelay: true }, serve).listen(port, '0.0.0.0', resolve)
  })))
  // What is compiled once must not count for the first call.
  await load({ host: '127.0.0.1', port: 8080, connections: 2, forMs: 1_000, requests: 50 })
  process.stdout.write('{}\n')
  createInterface({ input: process.stdin }).on('close', () => process.exit()).on('line', line => {
    void load(JSON.parse(line) as LoadOrder).then(figures => process.stdout.write(`${JSON.stringify(figures)}\n`))
  })
}

async function load ({ host, port, connections, forMs, requests }: LoadOrder): Promise<LoadFigures> {
  const took: number[] = []
  const began = performance.now()
  let firstMs = 0
  let sent = 0
  const may = () => sent < requests && performance.now() - began < forMs
  const one = async () => {
    const socket = connect({ host, port, noDelay: true }).setEncoding('latin1')
    try {
      while (may()) {
        sent++
        const begin = took.length === 0 ? began : performance.now()
        await exchange(socket)
        took.push(performance.now() - begin)
        if (firstMs === 0) firstMs = took[0] as number
      }
    } finally {
      socket.destroy()
    }
  }
  const figures = (failure: object) => ({
    requests: took.length, perSecond: took.length / (performance.now() - began) * 1_000, p50Ms: percentile(took, 50),
    p99Ms: percentile(took, 99), firstMs, ...failure
  })
  try {
    await Promise.all(Array.from({ length: connections }, one))
    return figures({})
  } catch (error) {
    return figures({ failure: (error as Error).message })
  }
}

function exchange (socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    let last = ''
    const done = (error?: Error) => {
      socket.removeAllListeners()
      if (error === undefined) resolve()
      else reject(error)
    }
    socket.on('data', (text: string) => {
      if (last === '' && text.startsWith('HTTP/') && !text.startsWith('HTTP/1.1 200')) done(new Error(text.slice(0, 60)))
      last = text
      if (text.endsWith('!')) done()
    })
    socket.on('error', done).on('close', () => done(new Error('the connection ended')))
    socket.write(request)
  })
}
