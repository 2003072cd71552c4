import { encodeMessage } from '../../wire/encode-message.ts'
import type { MessageType } from '../../wire/message-type.ts'
import type { AnyInit } from '../../wire/generated/well-known.ts'

/** A message as `google.protobuf.Any`. */
export function packed<T, I> (type: MessageType<T, I>, init: I): AnyInit {
  return { typeUrl: typeUrlOf(type), value: encodeMessage(type, init) }
}

export function typeUrlOf<T, I> (type: MessageType<T, I>): string { return `type.googleapis.com/${type.name}` }

/** An extension as Envoy's configuration names one. */
export function extension<T, I> (name: string, type: MessageType<T, I>, init: I): { name: string, typedConfig: AnyInit } {
  return { name, typedConfig: packed(type, init) }
}

/** @param seconds may have a fraction */
export function duration (seconds: number): { seconds: number, nanos: number } {
  const whole = Math.floor(seconds)
  return { seconds: whole, nanos: Math.round((seconds - whole) * 1e9) }
}

/** A `google.protobuf.Struct` of texts. */
export function structOf (fields: Readonly<Record<string, string>>): { fields: Record<string, { stringValue: string }> } {
  return { fields: Object.fromEntries(Object.entries(fields).map(([name, stringValue]) => [name, { stringValue }])) }
}
