variable "project_id" {
  description = "Id of the Google Cloud project, which is the Firebase project."
  type        = string
}

variable "region" {
  description = "Where functions run. The bucket and the dataset are made there unless storage_location says otherwise."
  type        = string
  default     = "us-central1"
}

variable "storage_location" {
  description = "Where the bucket and the dataset are. A dataset must be where jobs run."
  type        = string
  default     = null
}

variable "model_provider" {
  description = "vertex or gemini."
  type        = string
  default     = "vertex"

  validation {
    condition     = contains(["vertex", "gemini"], var.model_provider)
    error_message = "model_provider must be vertex or gemini."
  }
}

variable "bucket" {
  description = "Name of the bucket. Default: PROJECT-gembatch with vertex, none with gemini."
  type        = string
  default     = null
}

variable "bucket_folder" {
  description = "Folder of the bucket for inputs and outputs of jobs."
  type        = string
  default     = "gembatch"
}

variable "days" {
  description = "Days after which files of jobs are deleted. A job lives up to four."
  type        = number
  default     = null

  validation {
    condition     = var.days == null ? true : var.days >= 5
    error_message = "days must be at least 5: a job waits up to 72 hours and runs up to 24."
  }
}

variable "dataset" {
  description = "Name of a BigQuery dataset for rows that JSON Lines cannot carry. Default: none."
  type        = string
  default     = null
}

variable "service_account" {
  description = "E-mail address of the account that the functions run as. Default: the default account of Compute Engine."
  type        = string
  default     = null
}

variable "database" {
  description = "Id of the Firestore database, which must exist."
  type        = string
  default     = "(default)"
}

variable "edition" {
  description = "Edition of the database: STANDARD or ENTERPRISE, which makes no index by itself."
  type        = string
  default     = "STANDARD"

  validation {
    condition     = contains(["STANDARD", "ENTERPRISE"], var.edition)
    error_message = "edition must be STANDARD or ENTERPRISE."
  }
}

variable "prefix" {
  description = "What names of collections begin with."
  type        = string
  default     = "gembatch"
}

variable "manage_indexes" {
  description = "Whether indexes and field settings of Firestore are made here. Set it to false where `firebase deploy --only firestore` does it: only one of them may."
  type        = bool
  default     = true
}

variable "indexes_file" {
  description = "Path of a firestore.indexes.json to take instead of gembatch's own declaration. All that is in it is made."
  type        = string
  default     = null
}
