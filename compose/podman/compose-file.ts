import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parse } from 'yaml'

/** What compose.yaml says of one container, as far as it uses the format. */
export interface ComposeService {
  readonly image: string
  readonly command?: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly volumes?: readonly string[]
  readonly networks?: Readonly<Record<string, { readonly ipv4_address: string }>>
  readonly network_mode?: string
  readonly pid?: string
  readonly user?: string
  readonly cap_add?: readonly string[]
  readonly stdin_open?: boolean
  readonly healthcheck?: { readonly test: readonly string[] }
  readonly depends_on?: readonly string[] | Readonly<Record<string, { readonly condition: DependsOn }>>
  readonly restart?: string
  readonly build?: object
}

export type DependsOn = 'service_started' | 'service_healthy' | 'service_completed_successfully'

export interface ComposeFile {
  /** Each after those it depends on. */
  readonly services: ReadonlyMap<string, ComposeService>
  readonly subnet: string
}

const known = new Set([
  'image', 'command', 'entrypoint', 'environment', 'volumes', 'networks', 'network_mode', 'pid', 'user', 'cap_add', 'stdin_open',
  'healthcheck', 'depends_on', 'restart', 'build'
])

/** Throws at what it does not know, rather than leave it out. */
export function readComposeFile (path: string): ComposeFile {
  const { services, networks } = parse(readFileSync(path, 'utf8'), { merge: true }) as {
    services: Record<string, ComposeService>, networks: Record<string, { ipam: { config: [{ subnet: string }] } }>
  }
  for (const [name, service] of Object.entries(services)) {
    const unknown = Object.keys(service).find(key => !known.has(key))
    if (unknown !== undefined) throw new Error(`${path}: ${name}: this does not know what ${unknown} means`)
  }
  const [network] = Object.values(networks)
  if (network === undefined) throw new Error(`${path}: there is no network`)
  return { services: inOrder(services), subnet: network.ipam.config[0].subnet }
}

/** Whom a service waits for, and how long. */
export function dependenciesOf ({ depends_on: after = [], network_mode: network = '', pid = '' }: ComposeService): Map<string, DependsOn> {
  const shared = [network, pid].map(mode => /^service:(.+)$/.exec(mode)?.[1]).filter(name => name !== undefined)
  const named = Array.isArray(after) ? after.map((name: string) => [name, 'service_started'] as const) : Object.entries(after)
    .map(([name, { condition }]) => [name, condition as DependsOn] as const)
  return new Map([...shared.map(name => [name, 'service_started'] as const), ...named])
}

function inOrder (services: Readonly<Record<string, ComposeService>>): Map<string, ComposeService> {
  const ordered = new Map<string, ComposeService>()
  const add = (name: string, asking: readonly string[]) => {
    const service = services[name]
    if (service === undefined) throw new Error(`${asking.at(-1)} depends on ${name}, which there is not`)
    if (asking.includes(name)) throw new Error(`${name} depends on itself`)
    for (const other of dependenciesOf(service).keys()) if (!ordered.has(other)) add(other, [...asking, name])
    ordered.set(name, service)
  }
  for (const name of Object.keys(services)) if (!ordered.has(name)) add(name, [])
  return ordered
}

/** Words for `podman run`. @param images names here of the images that the file names */
export function runWords (file: string, name: string, service: ComposeService, images: Readonly<Record<string, string>>): string[] {
  const image = images[service.image]
  if (image === undefined) throw new Error(`${name}: there is no image ${service.image} here`)
  const [entrypoint = [], command = []] = [service.entrypoint, service.command]
  const container = (mode: string) => mode.replace(/^service:/, 'container:')
  const volume = (text: string) => text.startsWith('./') ? join(dirname(file), text) : text
  const flag = (flag: string, values: readonly string[]) => values.flatMap(value => [flag, value])
  return [
    'run', '--detach', '--name', name,
    ...flag('--env', Object.entries(service.environment ?? {}).map(([key, value]) => `${key}=${value}`)),
    ...flag('--volume', (service.volumes ?? []).map(volume)),
    ...Object.entries(service.networks ?? {}).flatMap(([network, { ipv4_address: ip }]) => ['--network', network, '--ip', ip]),
    ...service.network_mode === undefined ? [] : ['--network', container(service.network_mode)],
    ...service.networks === undefined && service.network_mode === undefined ? ['--network', 'none'] : [],
    ...service.pid === undefined ? [] : ['--pid', container(service.pid)],
    ...service.user === undefined ? [] : ['--user', service.user],
    ...flag('--cap-add', service.cap_add ?? []),
    ...service.stdin_open === true ? ['--interactive'] : [],
    ...entrypoint.length === 0 ? [] : ['--entrypoint', JSON.stringify(entrypoint)],
    image, ...command
  ]
}
