import { isIP } from 'node:net'
import { callersDomain, parseCallerPattern, type CallerPattern } from './caller-pattern.ts'
import { checkField } from './check-field.ts'
import { checkDnsName } from './dns-name.ts'
import { checkEntryId } from './entry-id.ts'
import { SpiffeError } from './errors.ts'
import { parseIpAddress } from './ip-address.ts'
import { isReservedId } from './member-id.ts'
import {
  inboundModes, serviceProtocols, type InboundMode, type ServiceDraft, type ServicePort, type ServiceProtocol, type StaticEndpoint
} from './service.ts'
import { parseSpiffeId, pathOf, type SpiffeId } from './spiffe-id.ts'

/** A service as somebody sent it. */
export interface RawServiceDraft {
  readonly id: string
  readonly name: string
  /** Empty: none. */
  readonly address: string
  /** `targetPort` 0: the port itself; `localPort` 0: none; `protocol` empty: `tcp`. */
  readonly ports: ReadonlyArray<{
    readonly name: string, readonly port: number, readonly targetPort: number, readonly protocol: string, readonly localPort: number
  }>
  readonly spiffeIds: readonly string[]
  readonly callers: readonly string[] | undefined
  /** `port` 0: the target port. */
  readonly staticEndpoints: ReadonlyArray<{ readonly address: string, readonly port: number }>
  /** Empty: `strict`. */
  readonly inbound: string
}

/** Of a service as JSON: many of them fit one message. */
const mostCharacters = 65_536
const most = { ports: 32, spiffeIds: 64, callers: 256, staticEndpoints: 256 }

/** Refuses what is no service; fills in defaults. @throws {SpiffeError} `service_malformed`, naming the field */
export function checkService (raw: RawServiceDraft): ServiceDraft {
  for (const [name, limit] of Object.entries(most)) {
    if ((raw[name as keyof typeof most]?.length ?? 0) > limit) throw malformed(`${name} has more than ${limit} members`)
  }
  if (raw.ports.length === 0) throw malformed('ports is empty')
  if (raw.spiffeIds.length === 0) throw malformed('spiffe_ids is empty')
  if (JSON.stringify(raw).length > mostCharacters) throw malformed(`the service is larger than ${mostCharacters} characters`)
  if (raw.id !== '') field('invalid service id', () => checkEntryId(raw.id))
  const ports = raw.ports.map(checkPort)
  refuseRepeats('port', ports.map(({ port }) => port))
  refuseRepeats('local port', ports.flatMap(({ localPort }) => localPort ?? []))
  refuseRepeats('port name', ports.flatMap(({ name }) => name === '' ? [] : [name]))
  return {
    id: raw.id,
    name: checkServiceName(raw.name),
    ...raw.address === '' ? {} : { address: parseIpAddress(raw.address, 'address') },
    ports,
    spiffeIds: [...new Set(raw.spiffeIds.map(checkServer))],
    ...raw.callers === undefined ? {} : { callers: [...new Set(raw.callers.map(checkCaller))] },
    staticEndpoints: raw.staticEndpoints.map(checkStatic),
    inbound: oneOf<InboundMode>('inbound', inboundModes, raw.inbound === '' ? 'strict' : raw.inbound)
  }
}

/** A DNS name without wildcards that is no IP address. @throws {SpiffeError} `service_malformed` */
function checkServiceName (name: string): string {
  field('invalid name', () => checkDnsName(name))
  if (name.includes('*')) throw malformed(`invalid name: has a wildcard: ${JSON.stringify(name)}`)
  if (isIP(name) !== 0) throw malformed(`invalid name: is an IP address: ${JSON.stringify(name)}`)
  return name
}

function checkPort ({ name, port, targetPort, protocol, localPort }: RawServiceDraft['ports'][number]): ServicePort {
  if (name !== '' && (name.includes('.') || name.includes('*'))) throw malformed(`invalid port name: ${JSON.stringify(name.slice(0, 80))}`)
  if (name !== '') field('invalid port name', () => checkDnsName(name))
  return {
    name,
    port: checkNumber('port', port),
    targetPort: checkNumber('target port', targetPort === 0 ? port : targetPort),
    protocol: oneOf<ServiceProtocol>('protocol', serviceProtocols, protocol === '' ? 'tcp' : protocol),
    ...localPort === 0 ? {} : { localPort: checkNumber('local port', localPort) }
  }
}

function checkStatic ({ address, port }: RawServiceDraft['staticEndpoints'][number]): StaticEndpoint {
  return {
    address: parseIpAddress(address, 'the static endpoint\'s address'),
    ...port === 0 ? {} : { port: checkNumber('static endpoint\'s port', port) }
  }
}

function checkServer (text: string): SpiffeId {
  const id = field('invalid spiffe_ids', () => parseSpiffeId(text))
  if (pathOf(id) === '' || isReservedId(id)) throw malformed(`invalid spiffe_ids: "${id}" is no workload`)
  return id
}

function checkCaller (text: string): CallerPattern {
  const pattern = field('', () => parseCallerPattern(text))
  if (pattern.startsWith(`spiffe://${callersDomain(pattern)}/spire/`)) throw malformed(`invalid caller: "${pattern}" is no workload`)
  return pattern
}

function checkNumber (name: string, port: number): number {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw malformed(`invalid ${name}: ${port} is not from 1 to 65535`)
  return port
}

function oneOf<T extends string> (name: string, choices: readonly T[], text: string): T {
  const choice = choices.find(choice => choice === text)
  if (choice === undefined) throw malformed(`invalid ${name}: ${JSON.stringify(text.slice(0, 80))} is none of ${choices.join(', ')}`)
  return choice
}

function refuseRepeats (name: string, values: readonly (string | number)[]): void {
  const repeated = values.find((value, index) => values.indexOf(value) !== index)
  if (repeated !== undefined) throw malformed(`invalid ports: ${name} ${repeated} is repeated`)
}

function field<T> (prefix: string, check: () => T): T { return checkField('service_malformed', prefix, check) }

function malformed (message: string): SpiffeError { return new SpiffeError('service_malformed', message) }
