import { notOffered } from '../runtime/config-schema.ts'

/** Keys that SPIRE's server has, and why a configuration with them is refused (spire-surface §6.2). */
export const spireOnlyKeys = {
  profiling_enabled: notOffered('run the server under Node\'s --cpu-prof instead', ['false']),
  profiling_port: notOffered('there is no profiler'),
  profiling_freq: notOffered('there is no profiler'),
  profiling_names: notOffered('there is no profiler', [''])
}

/** The same of `experimental`, of which SPIRE itself checks nothing. */
export const spireOnlyExperiments = {
  wit_key_type: notOffered('WIT-SVIDs are not issued'),
  wit_issuer: notOffered('WIT-SVIDs are not issued'),
  feature_flags: notOffered('no feature is behind a flag here', ['']),
  named_pipe_name: notOffered('Windows is not supported', [''])
}
