const startBytes = 64 * 1024
const keepBytes = 1024 * 1024

/**
 * Writes protobuf from the last byte to the first: a nested message is complete before its length prefix is due,
 * so one pass does and nothing is measured twice.
 */
export class BackwardWriter {
  #buffer = Buffer.allocUnsafeSlow(startBytes)
  #start = startBytes

  /** Bytes written so far; the difference of two readings is the length of what lies between. */
  get written (): number { return this.#buffer.length - this.#start }

  /** Copies out what was written and begins anew. */
  take (): Uint8Array {
    const bytes = new Uint8Array(this.written)
    bytes.set(this.#buffer.subarray(this.#start))
    this.reset()
    return bytes
  }

  /** Forgets what was written, and wipes it: messages may hold keys. */
  reset (): void {
    if (this.#buffer.length > keepBytes) this.#buffer = Buffer.allocUnsafeSlow(startBytes)
    else this.#buffer.fill(0, this.#start)
    this.#start = this.#buffer.length
  }

  byte (value: number): void {
    const at = this.#claim(1)
    this.#buffer[at] = value
  }

  /** @param value an integer from 0 to 2^32 - 1 */
  varint (value: number): void {
    if (value < 0x80) return this.byte(value)
    const size = value < 0x4000 ? 2 : value < 0x200000 ? 3 : value < 0x10000000 ? 4 : 5
    let at = this.#claim(size)
    while (value > 0x7f) {
      this.#buffer[at++] = (value & 0x7f) | 0x80
      value >>>= 7
    }
    this.#buffer[at] = value
  }

  /** @param low the lower, @param high the upper 32 bits, both unsigned */
  varint64 (low: number, high: number): void {
    if (high === 0) return this.varint(low)
    const groups: number[] = []
    while (high !== 0 || low > 0x7f) {
      groups.push((low & 0x7f) | 0x80)
      low = ((low >>> 7) | (high << 25)) >>> 0
      high >>>= 7
    }
    groups.push(low)
    const at = this.#claim(groups.length)
    for (let i = 0; i < groups.length; i++) this.#buffer[at + i] = groups[i] as number
  }

  fixed32 (value: number): void {
    const at = this.#claim(4)
    this.#buffer.writeInt32LE(value | 0, at)
  }

  float (value: number): void {
    const at = this.#claim(4)
    this.#buffer.writeFloatLE(value, at)
  }

  double (value: number): void {
    const at = this.#claim(8)
    this.#buffer.writeDoubleLE(value, at)
  }

  raw (bytes: Uint8Array): void {
    const at = this.#claim(bytes.length)
    this.#buffer.set(bytes, at)
  }

  /** UTF-8; a lone surrogate becomes U+FFFD. */
  text (text: string): void {
    const length = Buffer.byteLength(text)
    const at = this.#claim(length)
    this.#buffer.write(text, at, 'utf8')
  }

  /** Where to write so many bytes. May replace the buffer: call it before naming `#buffer`. */
  #claim (bytes: number): number {
    if (bytes > this.#start) this.#grow(bytes)
    return this.#start -= bytes
  }

  #grow (bytes: number): void {
    const written = this.written
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, written + bytes + startBytes))
    larger.set(this.#buffer.subarray(this.#start), larger.length - written)
    this.#buffer.fill(0)
    this.#buffer = larger
    this.#start = larger.length - written
  }
}
