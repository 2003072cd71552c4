import { decodeMessage } from '../../wire/decode-message.ts'
import { Ip } from '../../wire/generated/envoy-matching-ip.ts'
import * as network from '../../wire/generated/envoy-matching-network.ts'
import { UriSanInput } from '../../wire/generated/envoy-matching-ssl.ts'
import { HttpRequestHeaderMatchInput } from '../../wire/generated/envoy-core.ts'
import { HttpRBAC, HttpRBACPerRoute } from '../../wire/generated/envoy-http-rbac.ts'
import { NetworkRBAC } from '../../wire/generated/envoy-network-rbac.ts'
import { Action } from '../../wire/generated/envoy-rbac.ts'
import type { AnyInit } from '../../wire/generated/well-known.ts'
import { type AnyMessageType, MessageType } from '../../wire/message-type.ts'

const inputs = [...Object.values(network), UriSanInput, HttpRequestHeaderMatchInput, Ip]
const types = new Map<string, AnyMessageType>([HttpRBAC, HttpRBACPerRoute, NetworkRBAC, Action, ...inputs]
  .map(type => [`type.googleapis.com/${type.name}`, type]))

/** An extension's message as it stands in a configuration of Envoy written in JSON. @throws {Error} for what no RBAC filter holds */
export function asJson ({ typeUrl = '', value = new Uint8Array() }: AnyInit): object {
  const type = types.get(typeUrl)
  if (type === undefined) throw new Error(`no ${typeUrl} here`)
  return { '@type': typeUrl, ...fieldsOf(type, decodeMessage(type, value) as Record<string, unknown>) }
}

function fieldsOf (type: AnyMessageType, message: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(type.fields.flatMap(({ name, type: fieldType, presence }) => {
    const value = message[name]
    if (value === undefined) return []
    const one = (member: unknown) => fieldType instanceof MessageType ? messageAsJson(fieldType, member as Record<string, unknown>) : member
    if (presence === 'repeated') return [[name, (value as unknown[]).map(one)]]
    if (presence === 'map') return [[name, Object.fromEntries(Object.entries(value as object).map(([key, member]) => [key, one(member)]))]]
    return [[name, one(value)]]
  }))
}

function messageAsJson (type: AnyMessageType, message: Record<string, unknown>): unknown {
  if (type.name === 'google.protobuf.Any') return asJson(message)
  if (/^google\.protobuf\.\w+Value$/.test(type.name)) return message['value']
  return fieldsOf(type, message)
}
