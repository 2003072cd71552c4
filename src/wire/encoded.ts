import { encodeMessage } from './encode-message.ts'
import type { MessageType } from './message-type.ts'

/** A message encoded once, to be written to many streams. Handlers may yield it in place of the message. */
export class Encoded<T> {
  declare readonly decoded: T
  readonly bytes: Uint8Array

  constructor (bytes: Uint8Array) { this.bytes = bytes }
}

export function encoded<T, Init> (type: MessageType<T, Init>, init: Init): Encoded<T> {
  return new Encoded(encodeMessage(type, init))
}
