output "env" {
  description = "What belongs into functions/.env.PROJECT."
  value = merge(
    {
      GEMBATCH_PROVIDER      = var.model_provider
      GEMBATCH_REGION        = var.region
      GEMBATCH_MEMORY_MB     = tostring(local.facts.defaults.memoryMb)
      GEMBATCH_MAX_INSTANCES = tostring(local.facts.defaults.maxInstances)
    },
    local.has_bucket ? {
      GEMBATCH_VERTEX_BUCKET = var.bucket_folder == local.facts.defaults.folder ? local.bucket : "gs://${local.bucket}/${var.bucket_folder}"
    } : {},
    local.has_dataset ? { GEMBATCH_VERTEX_DATASET = var.dataset } : {},
    local.is_vertex ? { GOOGLE_CLOUD_LOCATION = local.has_dataset ? local.location : "global" } : {},
  )
}

output "service_account" {
  description = "What the functions run as."
  value       = local.account
}

output "bucket" {
  value = local.bucket
}
