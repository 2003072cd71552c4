import type { Clock } from '../runtime/clock.ts'
import type { KeySource } from './key-source.ts'
import type { KeySourceConfig } from './oidc-config.ts'
import { serverKeySource } from './server-key-source.ts'
import { workloadKeySource } from './workload-key-source.ts'

/** The source that a configuration names. */
export function openKeySource (config: KeySourceConfig, clock: Clock): KeySource {
  return config.kind === 'server' ? serverKeySource({ ...config, clock }) : workloadKeySource({ ...config, clock })
}
