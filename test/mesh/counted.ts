import { askEnvoy } from '../../src/mesh/envoy/admin-interface.ts'
import { until } from '../fakes/envoy.ts'

/** Of an Envoy, the sum of all statistics whose names fit. It is given a second to answer, for which a machine may stand still. */
export async function countedAt (adminSocketPath: string, names: RegExp): Promise<number> {
  let text = ''
  await until('Envoy to answer', async () => {
    text = await askEnvoy(adminSocketPath, '/stats').catch(() => '')
    return text !== ''
  }, 120_000)
  return text.split('\n').map(line => line.split(': ')).filter(([name]) => names.test(name ?? ''))
    .reduce((sum, [, value]) => sum + Number(value), 0)
}
