import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Postgres } from './postgres.ts'

/**
 * What becomes of a statement: it goes through, the connection is cut before the server has it, or after the server has answered it and
 * before the client knows.
 */
export type Fate = 'pass' | 'cut before' | 'cut after'

export interface PostgresProxy extends AsyncDisposable {
  /** The same address by way of this proxy. */
  through (url: string): string
  /** Asked for each statement; all pass unless it is set. */
  fate: (text: string) => Fate
  /** What came by, in order. */
  readonly statements: string[]
  /** Nothing comes through, in either direction, and no connection ends. */
  silent: boolean
  /** The same for good, for the connections there are now; neither end hears of it. */
  silenceOpen (): void
  /** As a pooler that lends connections per transaction: LISTEN is answered, notifications do not come. */
  swallowNotifications: boolean
}

/** Between a client and a server, over TCP, with an eye on the statements. */
export async function startPostgresProxy ({ folder, port }: Postgres): Promise<PostgresProxy> {
  const sockets = new Set<Socket>()
  const open = new Set<{ silent: boolean }>()
  const proxy: PostgresProxy = {
    through: url => url.replace(/host=[^&]*&port=[^&]*/, `host=127.0.0.1&port=${(listener.address() as AddressInfo).port}`),
    fate: () => 'pass',
    statements: [],
    silent: false,
    silenceOpen: () => { for (const link of open) link.silent = true },
    swallowNotifications: false,
    async [Symbol.asyncDispose] () {
      for (const socket of sockets) socket.destroy()
      listener.close()
      await once(listener, 'close')
    }
  }
  const listener = createServer({ allowHalfOpen: true }, client => {
    const server = connect(join(folder, `.s.PGSQL.${port}`))
    const pair = [client, server]
    const link = { silent: false }
    /** The client asked for TLS: the answer is one byte and no message. */
    let asksForTls = false
    open.add(link)
    let doomed = false
    const cut = () => { for (const socket of pair) socket.destroy() }
    for (const socket of pair) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        open.delete(link)
        cut()
      })
    }
    // A farewell that is not passed on is not answered either.
    client.on('end', () => { if (!link.silent) cut() })
    const messages = new Messages()
    const answers = new Messages('letters')
    client.on('data', data => {
      if (proxy.silent || link.silent) return
      for (const { bytes, statement } of messages.add(data)) {
        asksForTls ||= bytes.length === 8 && bytes.readInt32BE(4) === sslRequest
        if (statement !== undefined) proxy.statements.push(statement)
        const fate = statement === undefined ? 'pass' : proxy.fate(statement)
        if (fate === 'cut before') return cut()
        doomed ||= fate === 'cut after'
        server.write(bytes)
      }
    })
    server.on('data', data => {
      if (doomed) return cut()
      if (proxy.silent || link.silent) return
      if (asksForTls) {
        asksForTls = false
        client.write(data)
        return
      }
      for (const { bytes } of answers.add(data)) {
        if (!proxy.swallowNotifications || bytes[0] !== notificationResponse) client.write(bytes)
      }
    })
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  return proxy
}

interface Message { readonly bytes: Buffer, readonly statement: string | undefined }

/** PostgreSQL's protocol, §"SSLRequest". */
const sslRequest = 80_877_103
const notificationResponse = 'A'.charCodeAt(0)

/** Tells messages apart: a client's first has a length alone, the others and all of a server's a letter before it. */
class Messages {
  #rest = Buffer.alloc(0)
  #started: boolean

  constructor (letters?: 'letters') { this.#started = letters !== undefined }

  add (data: Buffer): Message[] {
    this.#rest = Buffer.concat([this.#rest, data])
    const found: Message[] = []
    for (;;) {
      const head = this.#started ? 1 : 0
      if (this.#rest.length < head + 4) return found
      const length = head + this.#rest.readInt32BE(head)
      if (this.#rest.length < length) return found
      const bytes = this.#rest.subarray(0, length)
      this.#rest = this.#rest.subarray(length)
      found.push({ bytes, statement: this.#started ? statementOf(bytes) : undefined })
      this.#started = true
    }
  }
}

/** Of Query the text, of Parse what follows the name of the prepared statement. */
function statementOf (bytes: Buffer): string | undefined {
  const [letter, body] = [String.fromCharCode(bytes[0] ?? 0), bytes.subarray(5)]
  if (letter === 'Q') return untilNul(body)
  return letter === 'P' ? untilNul(body.subarray(body.indexOf(0) + 1)) : undefined
}

function untilNul (bytes: Buffer): string { return bytes.subarray(0, bytes.indexOf(0)).toString() }
