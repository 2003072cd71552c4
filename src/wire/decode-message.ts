import { emptyMessage, readFields } from './field-codec.ts'
import type { MessageType } from './message-type.ts'
import { WireReader } from './wire-reader.ts'

/** As C++ and Java have it. */
const deepest = 100

/**
 * Reads a message; unknown fields are passed over, bytes are copied, maps have no prototype.
 * @throws {SpiffeError} `message_malformed`
 */
export function decodeMessage<T, Init> (type: MessageType<T, Init>, bytes: Uint8Array): T {
  const message = emptyMessage(type)
  readFields(new WireReader(bytes), type, message, deepest)
  return message as T
}
