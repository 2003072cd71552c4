import { z } from 'zod'
import type { Plugin } from '../../../plugins/plugin.ts'
import type { Clock } from '../../../runtime/clock.ts'
import type { Logger } from '../../../runtime/logger.ts'
import type { WorkloadAttestor } from '../workload-attestor.ts'
import { cgroupMatcher } from './cgroup-matchers.ts'
import { createDockerAttestor, type DockerAttestorConfig } from './docker-attestor.ts'
import { templateProblem } from './engine-sockets.ts'

type Host = { readonly clock: Clock, readonly log: Logger }

const notOffered = {
  sigstore: 'is not offered: signatures of images are not looked at, so no entry may rely on docker:image-signature selectors',
  docker_host: 'is not offered: it is of Windows; set docker_socket_path'
}

/** As SPIRE has it, empty is as good as absent. */
const optionalText = z.string().optional().transform(value => value === '' ? undefined : value)

const socket = optionalText.transform((url, context) => {
  if (url === undefined) return undefined
  if (url.startsWith('unix:///')) return url.slice('unix://'.length)
  context.addIssue('must be unix:// and an absolute path')
  return z.NEVER
})

/** SPIRE's keys. */
const configSchema = z.strictObject({
  docker_socket_path: socket,
  podman_socket_path: socket,
  podman_socket_path_template: socket.superRefine((template, context) => {
    const problem = template === undefined ? undefined : templateProblem(template)
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
  }),
  docker_version: optionalText
    .refine(version => version === undefined || /^\d{1,4}\.\d{1,4}$/.test(version), 'must be a version such as 1.41'),
  use_new_container_locator: z.boolean().optional(),
  verbose_container_locator_logs: z.boolean().default(false),
  container_id_cgroup_matchers: z.array(z.string()).default([])
}).transform((value, context): DockerAttestorConfig => {
  const patterns = value.container_id_cgroup_matchers
  if (patterns.length > 0 && value.use_new_container_locator !== false) {
    context.addIssue({
      code: 'custom', path: ['use_new_container_locator'], message: 'must be false where container_id_cgroup_matchers are given'
    })
  }
  try {
    return {
      sockets: {
        docker: value.docker_socket_path ?? '/var/run/docker.sock',
        podman: value.podman_socket_path ?? '/run/podman/podman.sock',
        podmanOfUser: value.podman_socket_path_template
      },
      apiVersion: value.docker_version,
      matcher: patterns.length === 0 ? undefined : cgroupMatcher(patterns),
      logPlaces: value.verbose_container_locator_logs
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    context.addIssue({ code: 'custom', path: ['container_id_cgroup_matchers'], message: error.message })
    return z.NEVER
  }
})

function withoutNotOffered (raw: unknown, context: z.RefinementCtx): unknown {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return raw
  return Object.fromEntries(Object.entries(raw).filter(([key]) => {
    if (!Object.hasOwn(notOffered, key)) return true
    context.addIssue({ code: 'custom', path: [key], message: notOffered[key as keyof typeof notOffered] })
    return false
  }))
}

export const dockerPlugin: Plugin<WorkloadAttestor & AsyncDisposable, DockerAttestorConfig, Host> = {
  name: 'docker',
  config: z.preprocess(withoutNotOffered, configSchema),
  start: async (config, { clock, log }) => createDockerAttestor(config, { clock, log })
}
