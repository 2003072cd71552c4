import { z } from 'zod'
import type { RecordingConfig } from '../authz/decision-log/open-recorder.ts'
import { Mask } from '../authz/decision-log/mask.ts'
import { parsedBy, text } from '../runtime/config-schema.ts'

/** What an agent does with the decisions of its node. */
export interface DecisionConfig {
  readonly recording: RecordingConfig
  /** What the proxy tells of requests about which it decides itself. */
  readonly proxy: 'none' | 'refused' | 'all'
}

const url = z.string().refine(given => /^https?:\/\//.test(given) && URL.canParse(given), 'must be an http:// or https:// URL')

export const decisionSchema = z.strictObject({
  proxy: z.enum(['none', 'refused', 'all']).default('refused'),
  remembered: z.int().min(1, 'must be 1 to 1000000').max(1_000_000, 'must be 1 to 1000000').default(10_000),
  file: text.optional(),
  upload_url: url.optional(),
  otlp_logs_url: url.optional(),
  otlp_traces_url: url.optional(),
  mask: z.array(parsedBy(pointerIntoInput)).default([])
})

export function decisionConfigOf (decisions: z.output<typeof decisionSchema>): DecisionConfig {
  const { proxy, remembered, file, upload_url: uploadUrl, otlp_logs_url: otlpUrl, otlp_traces_url: spansUrl, mask } = decisions
  return {
    proxy,
    recording: { remembered, file, uploadUrl, otlpUrl, spansUrl, mask: mask.map(path => ({ op: 'remove', path })) }
  }
}

function pointerIntoInput (path: string): string {
  void new Mask([{ op: 'remove', path }])
  return path
}
