import { trafficPrefix } from '../resources/traffic-counters.ts'
import { askEnvoy } from './admin-interface.ts'

/** What Envoy has counted since it started: see `TrafficCounter`. */
export interface TrafficCount {
  readonly name: string
  readonly labels: ReadonlyMap<string, string>
  readonly value: number
}

const mostBytes = 16 << 20
/** In Prometheus' text format. */
const line = new RegExp(`^envoy_${trafficPrefix}_(\\w+)\\{(.*)\\} (\\d+)$`)
const label = /(\w+)="((?:[^"\\]|\\.)*)"/g
const escaped = new Map([['\\\\', '\\'], ['\\"', '"'], ['\\n', '\n']])
const unescaped = new Map([...escaped].map(([text, meant]) => [meant, text]))

/** Nothing when Envoy does not answer in time. */
export async function readTraffic (adminSocketPath: string, signal?: AbortSignal): Promise<TrafficCount[]> {
  try {
    return parseTraffic(await askEnvoy(adminSocketPath, `/stats/prometheus?filter=^${trafficPrefix}`, { signal, mostBytes }))
  } catch {
    return []
  }
}

export function parseTraffic (text: string): TrafficCount[] {
  return text.split('\n').flatMap(one => {
    const [, name = '', labels = '', value] = line.exec(one) ?? []
    if (name === '') return []
    const pairs = [...labels.matchAll(label)].map(([, key = '', text = '']) =>
      [key, text.replaceAll(/\\./g, found => escaped.get(found) ?? found)] as const)
    return [{ name, labels: new Map(pairs), value: Number(value) }]
  })
}

const help = new Map([
  ['requests', 'HTTP requests that ended, by who called whom, as the proxy of who was called saw it'],
  ['connections', 'Connections and tunnels that ended, by who called whom, as the proxy of who was called saw it'],
  ['plaintext', 'Connections and requests without mTLS that ended']
])

/** Prometheus' text format again, under names of the agent's own. */
export function exposeTraffic (counts: readonly TrafficCount[], prefix: string): string {
  return [...Map.groupBy(counts, ({ name }) => name)].map(([name, of]) => {
    const metric = `${prefix}_mesh_${name}_total`
    const lines = of.map(({ labels, value }) => {
      const pairs = [...labels].map(([key, text]) => `${key}="${text.replaceAll(/[\\"\n]/g, found => unescaped.get(found) ?? found)}"`)
      return `${metric}{${pairs.join(',')}} ${value}\n`
    })
    return `# HELP ${metric} ${help.get(name) ?? name}\n# TYPE ${metric} counter\n${lines.join('')}`
  }).join('')
}
