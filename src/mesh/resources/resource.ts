import { createHash } from 'node:crypto'
import { encodeMessage } from '../../wire/encode-message.ts'
import type { MessageType } from '../../wire/message-type.ts'
import { typeUrlOf } from './any.ts'

/** One xDS resource, ready to send. */
export interface Resource {
  readonly typeUrl: string
  readonly name: string
  /** From the content: it means the same after a restart of the agent. */
  readonly version: string
  /** The encoded message. */
  readonly value: Uint8Array
}

export function resource<T, I> (type: MessageType<T, I>, name: string, init: I): Resource {
  const value = encodeMessage(type, init)
  return { typeUrl: typeUrlOf(type), name, version: createHash('sha256').update(value).digest('hex').slice(0, 32), value }
}
