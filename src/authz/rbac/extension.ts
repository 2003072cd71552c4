import { encodeMessage } from '../../wire/encode-message.ts'
import type { MessageType } from '../../wire/message-type.ts'
import type { AnyInit } from '../../wire/generated/well-known.ts'

/** An extension as Envoy's configuration names one, whichever of its messages holds it. */
export interface Extension { readonly name: string, readonly typedConfig: AnyInit }

export function extension<T, I> (name: string, type: MessageType<T, I>, init: I): Extension {
  return { name, typedConfig: { typeUrl: `type.googleapis.com/${type.name}`, value: encodeMessage(type, init) } }
}
