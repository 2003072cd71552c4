import { notOffered } from '../runtime/config-schema.ts'

/** Keys that SPIRE's agent has, and why a configuration with them is refused (spire-surface §6.3). */
export const spireOnlyKeys = {
  trust_bundle_spiffe_workload_api: notOffered('write the bundle to a file (assay files run) and name it as trust_bundle_path', ['']),
  profiling_enabled: notOffered('run the agent under Node\'s --cpu-prof instead', ['false']),
  profiling_port: notOffered('there is no profiler'),
  profiling_freq: notOffered('there is no profiler'),
  profiling_names: notOffered('there is no profiler', [''])
}

/** The same of `experimental`, of which SPIRE itself checks nothing. */
export const spireOnlyExperiments = {
  feature_flags: notOffered('no feature is behind a flag here', ['']),
  named_pipe_name: notOffered('Windows is not supported', ['']),
  admin_named_pipe_name: notOffered('Windows is not supported', [''])
}
