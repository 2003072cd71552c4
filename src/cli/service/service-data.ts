import { z } from 'zod'
import { formatProblems, readConfig } from '../../runtime/config-file.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { ServiceInit } from '../../wire/generated/assay-types.ts'
import { readInputText } from '../read-input.ts'
import type { Terminal } from '../terminal.ts'

const port = z.int().min(1).max(65_535)

const schema = z.strictObject({
  services: z.array(z.strictObject({
    service_id: z.string().optional(),
    name: z.string(),
    address: z.string().optional(),
    ports: z.array(z.strictObject({
      name: z.string().optional(), port, target_port: port.optional(), protocol: z.string().optional(), local_port: port.optional()
    })).min(1, 'at least one port is required'),
    spiffe_ids: z.array(z.string()).min(1, 'at least one SPIFFE ID is required'),
    callers: z.array(z.string()).optional(),
    endpoints: z.array(z.strictObject({ address: z.string(), port: port.optional() })).optional(),
    inbound: z.string().optional()
  })).min(1, 'is empty')
})

/** Reads a `-data` file. @throws {SpiffeError} `file_unusable`, naming file, line and key */
export async function readServiceData (path: string, terminal: Terminal): Promise<ServiceInit[]> {
  const name = path === '-' ? 'standard input' : path
  const reading = readConfig(schema, { file: { name, text: await readInputText(path, terminal) }, maxLength: 64 * 1_048_576 })
  if (reading.value === undefined) {
    throw new SpiffeError('file_unusable', formatProblems(reading.problems), { details: { problems: reading.problems } })
  }
  return reading.value.services.map(service => ({
    id: service.service_id,
    name: service.name,
    address: service.address,
    ports: service.ports.map(({ name, port, target_port: targetPort, protocol, local_port: localPort }) =>
      ({ name, port, targetPort, protocol, localPort })),
    spiffeIds: service.spiffe_ids,
    callers: service.callers && { patterns: service.callers },
    staticEndpoints: service.endpoints,
    inbound: service.inbound
  }))
}
