import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import {
  bodyOf, decodeMessage, DbusWriter, messageLength, messageType, type DbusMessage
} from '../../src/attestation/workload/systemd/dbus-message.ts'

export interface Unit { readonly id: string, readonly fragmentPath: string }

/** What a message bus with systemd on it answers; any client may ask. */
export class FakeSystemd implements AsyncDisposable {
  readonly units = new Map<number, Unit>()
  /** Put before each answer, as a bus puts signals. */
  chatter = false
  /** Answers come in as many pieces as they have bytes. */
  crumbs = false
  /** Connections so far. */
  connections = 0
  readonly #sockets = new Set<Socket>()
  readonly #server = createServer(socket => {
    this.connections++
    this.#sockets.add(socket)
    socket.on('error', () => {})
    this.#serve(socket)
  })

  static async listen (path: string): Promise<FakeSystemd> {
    const systemd = new FakeSystemd()
    systemd.#server.listen(path)
    await once(systemd.#server, 'listening')
    return systemd
  }

  disconnect (): void { for (const socket of this.#sockets) socket.destroy() }

  #serve (socket: Socket): void {
    let received: Buffer = Buffer.alloc(0)
    let authenticated = false
    socket.on('data', data => {
      received = Buffer.concat([received, data])
      while (!authenticated && received.includes('\r\n')) {
        const end = received.indexOf('\r\n')
        const line = received.subarray(0, end).toString('latin1').replace(/^\0/, '')
        received = received.subarray(end + 2)
        if (line === 'BEGIN') authenticated = true
        else socket.write(answerTo(line))
      }
      if (!authenticated) return
      for (;;) {
        const length = messageLength(received)
        if (length === undefined || received.length < length) return
        const answer = this.#answer(decodeMessage(Uint8Array.from(received.subarray(0, length))))
        received = received.subarray(length)
        for (const piece of this.crumbs ? [...answer].map(byte => Uint8Array.of(byte)) : [answer]) socket.write(piece)
      }
    })
  }

  #answer (message: DbusMessage): Uint8Array {
    const { member, path } = headerOf(message)
    const body = bodyOf(message)
    const reply = (signature: string, write: (writer: DbusWriter) => void) => Buffer.concat([
      ...this.chatter ? [encode({ type: messageType.signal, fields: [[1, 'o', '/x'], [2, 's', 'a.b'], [3, 's', 'NameAcquired']] })] : [],
      encode({ type: messageType.reply, fields: [[5, 'u', message.serial], [8, 'g', signature]], write })
    ])
    const refuse = (name: string) => encode({
      type: messageType.error,
      fields: [[4, 's', name], [5, 'u', message.serial], [8, 'g', 's']],
      write: writer => writer.value('s', 'as it was asked')
    })
    if (member === 'Hello') return reply('s', writer => writer.value('s', ':1.1'))
    if (member === 'GetUnitByPID') {
      const pid = body[0] as number
      if (!this.units.has(pid)) return refuse('org.freedesktop.systemd1.NoUnitForPID')
      return reply('o', writer => writer.value('o', `/org/freedesktop/systemd1/unit/${pid}`))
    }
    const unit = this.units.get(Number(path.split('/').at(-1)))
    if (member !== 'Get' || unit === undefined) return refuse('org.freedesktop.DBus.Error.UnknownMethod')
    return reply('v', writer => {
      writer.value('g', 's')
      writer.value('s', body[1] === 'Id' ? unit.id : unit.fragmentPath)
    })
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.disconnect()
    await new Promise(resolve => this.#server.close(resolve))
  }
}

function answerTo (line: string): string {
  if (/^AUTH EXTERNAL [0-9a-f]+$/.test(line) || line === 'DATA') return `OK ${'0'.repeat(32)}\r\n`
  return line === 'AUTH EXTERNAL' ? 'DATA\r\n' : 'ERROR\r\n'
}

/** Path and member, which a client has no use for. */
function headerOf ({ bytes }: DbusMessage): { member: string, path: string } {
  const text = Buffer.from(bytes).toString('latin1')
  const field = (code: number, type: string) => {
    // A field begins with its number, and the signature of its value.
    const at = text.indexOf(`${String.fromCharCode(code)}\x01${type}\0`, 16) + 4
    return text.slice(at + 4, at + 4 + bytes[at]!)
  }
  return { path: field(1, 'o'), member: field(3, 's') }
}

interface Encoding {
  readonly type: number
  readonly fields: readonly (readonly [code: number, type: string, value: string | number])[]
  readonly write?: (body: DbusWriter) => void
}

function encode ({ type, fields, write }: Encoding): Uint8Array {
  const body = new DbusWriter()
  write?.(body)
  const writer = new DbusWriter()
  for (const byte of [0x6c, type, 1, 1]) writer.byte(byte)
  writer.value('u', body.length)
  writer.value('u', 1)
  writer.array(() => {
    for (const [code, kind, value] of fields) {
      writer.align(8)
      writer.byte(code)
      writer.value('g', kind)
      writer.value(kind, value)
    }
  })
  writer.align(8)
  return Buffer.concat([writer.bytes(), body.bytes()])
}
