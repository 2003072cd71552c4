import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { PodNetwork } from './pods.ts'

export interface ReceivedSpan {
  readonly trace: string
  readonly id: string
  /** Empty: the first of its trace. */
  readonly parent: string
  readonly name: string
  /** As OpenTelemetry numbers them: 2 server, 3 client. */
  readonly kind: number
  readonly attributes: Readonly<Record<string, string>>
  readonly service: string
}

const program = join(import.meta.dirname, 'otlp-collector.mjs')

/** A collector of spans in the node's network. @returns what it receives, as it comes */
export async function startOtlpCollector (network: PodNetwork, port: number): Promise<readonly ReceivedSpan[]> {
  const lines = createInterface({ input: network.spawnIn(undefined, process.execPath, program, String(port)).stdout! })
  await once(lines, 'line')
  const spans: ReceivedSpan[] = []
  lines.on('line', line => spans.push(JSON.parse(line) as ReceivedSpan))
  return spans
}
