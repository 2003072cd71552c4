import { connect, type Socket } from 'node:net'
import { bodyOf, decodeMessage, encodeCall, messageLength, messageType, type DbusCall, type DbusMessage } from './dbus-message.ts'

/** An answer that says no. */
export class DbusError extends Error {
  /** E.g. `org.freedesktop.systemd1.NoUnitForPID`. */
  readonly errorName: string

  constructor (errorName: string, message: string) {
    super(message)
    this.name = 'DbusError'
    this.errorName = errorName
  }
}

/** Longest line of the authentication. */
const maxLineBytes = 16 * 1024

/** A connection to a message bus (D-Bus Specification) that asks, and offers nothing. */
export class DbusConnection implements Disposable {
  readonly #socket: Socket
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown[]>>()
  #received: Uint8Array = Buffer.alloc(0)
  #serial = 0
  #failure: Error | undefined
  /** While the lines of the authentication are exchanged. */
  #line: ((line: string) => void) | undefined

  private constructor (path: string) {
    this.#socket = connect(path)
    this.#socket.on('error', error => this.#fail(error))
    this.#socket.on('close', () => this.#fail(new Error('the bus closed the connection')))
    this.#socket.on('data', data => this.#receive(data))
    // It does not keep an agent running that has ended.
    this.#socket.unref()
  }

  /** @param path of the bus's socket. @throws when nobody answers there as a bus does; when the signal aborts, its reason */
  static async open (path: string, signal: AbortSignal): Promise<DbusConnection> {
    using scope = new DisposableStack()
    const connection = scope.use(new DbusConnection(path))
    await connection.#authenticate(signal)
    const bus = 'org.freedesktop.DBus'
    await connection.call({
      destination: bus, path: '/org/freedesktop/DBus', interface: bus, member: 'Hello', signature: '', body: []
    }, signal)
    scope.move()
    return connection
  }

  get isOpen (): boolean { return this.#failure === undefined }

  /**
   * @returns the arguments of the answer
   * @throws {DbusError} for an answer that says no; when the signal aborts, its reason
   */
  async call (call: DbusCall, signal: AbortSignal): Promise<unknown[]> {
    signal.throwIfAborted()
    if (this.#failure !== undefined) throw this.#failure
    const serial = this.#serial = this.#serial % 0xffff_ffff + 1
    const answer = Promise.withResolvers<unknown[]>()
    const stop = () => answer.reject(signal.reason as Error)
    signal.addEventListener('abort', stop, { once: true })
    this.#waiting.set(serial, answer)
    try {
      this.#socket.write(encodeCall(serial, call))
      return await answer.promise
    } finally {
      this.#waiting.delete(serial)
      signal.removeEventListener('abort', stop)
    }
  }

  /** Says who we are; the other side knows it from the kernel (SASL EXTERNAL). */
  async #authenticate (signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const answer = Promise.withResolvers<unknown[]>()
    const stop = () => answer.reject(signal.reason as Error)
    signal.addEventListener('abort', stop, { once: true })
    this.#waiting.set(0, answer)
    this.#line = line => answer.resolve([line])
    try {
      this.#socket.write(`\0AUTH EXTERNAL ${Buffer.from(String(process.getuid?.() ?? 0)).toString('hex')}\r\n`)
      const [line] = await answer.promise
      if (!/^OK( |$)/.test(String(line))) throw new Error(`the bus refused: ${String(line).slice(0, 200)}`)
      this.#socket.write('BEGIN\r\n')
    } finally {
      this.#waiting.delete(0)
      signal.removeEventListener('abort', stop)
    }
  }

  #receive (data: Uint8Array): void {
    this.#received = Buffer.concat([this.#received, data])
    try {
      if (this.#line !== undefined) this.#readLine(this.#line)
      // What comes right behind the line is read too: it must not wait for more.
      if (this.#line === undefined) this.#readMessages()
    } catch (error) {
      this.#socket.destroy()
      this.#fail(error as Error)
    }
  }

  #readLine (found: (line: string) => void): void {
    const end = Buffer.from(this.#received).indexOf('\r\n')
    if (end < 0 && this.#received.length > maxLineBytes) throw new Error('the bus does not end its line')
    if (end < 0) return
    const line = Buffer.from(this.#received.subarray(0, end)).toString('latin1')
    this.#received = this.#received.subarray(end + 2)
    this.#line = undefined
    found(line)
  }

  #readMessages (): void {
    for (;;) {
      const length = messageLength(this.#received)
      if (length === undefined || this.#received.length < length) return
      // Offsets count from where the message begins.
      this.#take(decodeMessage(Uint8Array.from(this.#received.subarray(0, length))))
      this.#received = this.#received.subarray(length)
    }
  }

  #take (message: DbusMessage): void {
    // Signals come unasked; an answer may come after its asker has gone.
    const answer = message.replySerial === undefined ? undefined : this.#waiting.get(message.replySerial)
    if (answer === undefined) return
    if (message.type === messageType.reply) answer.resolve(bodyOf(message))
    else if (message.type === messageType.error) {
      const text = message.signature.startsWith('s') ? String(bodyOf({ ...message, signature: 's' })[0]) : ''
      answer.reject(new DbusError(message.errorName ?? 'unknown', text))
    }
  }

  #fail (error: Error): void {
    this.#failure ??= error
    for (const answer of this.#waiting.values()) answer.reject(this.#failure)
  }

  [Symbol.dispose] (): void {
    this.#socket.destroy()
    this.#fail(new Error('the connection was closed'))
  }
}
