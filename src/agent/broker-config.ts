import { z } from 'zod'
import type { BrokerPolicies } from '../broker/broker-policy.ts'
import { hostPort, parsedBy, text, type ListenAddress } from '../runtime/config-schema.ts'
import { parseSpiffeId } from '../spiffe/spiffe-id.ts'

/** Where the Broker API listens, one place at least, and for whom. */
export interface BrokerConfig {
  readonly socketPath: string | undefined
  readonly bind: ListenAddress | undefined
  readonly brokers: BrokerPolicies
}

const allowedTypes = z.array(z.strictObject({ type_url: text, allow_over_tcp: z.boolean().default(false) }))
  .min(1, 'must name at least one type')
  .refine(types => types.length === 1 || !types.some(({ type_url: url }) => url === '*'), 'must not have "*" beside other types')

/** SPIRE's keys, those of `agent.experimental.broker`. */
export const brokerSchema = z.strictObject({
  socket_path: text.optional(),
  bind_address: hostPort.optional(),
  brokers: z.array(z.strictObject({ id: parsedBy(parseSpiffeId), allowed_reference_types: allowedTypes }))
    .min(1, 'must name at least one broker')
    .refine(brokers => new Set(brokers.map(({ id }) => id)).size === brokers.length, 'must not name a broker twice')
}).refine(broker => broker.socket_path !== undefined || broker.bind_address !== undefined, 'must have socket_path or bind_address')

export function brokerConfigOf (broker: z.output<typeof brokerSchema> | undefined): BrokerConfig | undefined {
  if (broker === undefined) return undefined
  return {
    socketPath: broker.socket_path,
    bind: broker.bind_address,
    brokers: new Map(broker.brokers.map(({ id, allowed_reference_types: types }) => [id, {
      allowedTypes: new Map(types.map(({ type_url: url, allow_over_tcp: allowOverTcp }) => [url, { allowOverTcp }]))
    }]))
  }
}
