import { BackwardWriter } from './backward-writer.ts'
import { writeFields, type Target } from './field-codec.ts'
import type { MessageType } from './message-type.ts'

const writer = new BackwardWriter()

/**
 * The wire form of a message: fields in order, defaults left out, map entries in the order given.
 * @throws {TypeError | RangeError} for a value that does not fit its field: a bug of the caller, not a refusal
 */
export function encodeMessage<T, Init> (type: MessageType<T, Init>, init: Init): Uint8Array {
  try {
    writeFields(writer, type, init as Target)
    return writer.take()
  } catch (error) {
    writer.reset()
    throw error
  }
}
